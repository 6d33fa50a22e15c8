// Vectors of the instruction set that for_each_isa.h is compiling for, on the compilers' vector extension: + - * and
// comparisons work on them and with scalars, and the compiler contracts a * b + c into one instruction where there is
// one. Numbers of bfloat16 are vectors of float between `load` and `store`.
#if defined(ZFK_VECTORS) == defined(ZFK_TOGGLE)
#if defined(ZFK_VECTORS)
#undef ZFK_VECTORS
#else
#define ZFK_VECTORS
#endif

namespace zfkernels::cpu::ZFK_ISA {

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(ZFK_VECTOR_BYTES)));
  typedef T unaligned __attribute__((vector_size(ZFK_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};
template <class T>
using Vector = typename VectorOf<Wide<T>>::type;

// Elements in a vector of T.
template <class T>
inline constexpr int kLanes = ZFK_VECTOR_BYTES / sizeof(Wide<T>);

#define ZFK_INLINE inline __attribute__((always_inline))

template <class T, int... kLane>
ZFK_INLINE Vector<T> repeat(Wide<T> value, std::integer_sequence<int, kLane...>) {
  return Vector<T>{(static_cast<void>(kLane), value)...};
}
// A number in all lanes.
template <class T>
ZFK_INLINE Vector<T> broadcast(Wide<T> value) {
  return repeat<T>(value, std::make_integer_sequence<int, kLanes<T>>());
}

// The upper halves of floats.
ZFK_INLINE Vector<float> widen(const uint16_t* from) {
#if ZFK_VECTOR_BYTES == 64
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return reinterpret_cast<Vector<float>>(reinterpret_cast<Vector<uint32_t>>(_mm512_maskz_cvtepu16_epi32(0xffff, halves))
                                         << 16);
#elif ZFK_VECTOR_BYTES == 32
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return reinterpret_cast<Vector<float>>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
#else
  Vector<uint32_t> words;
  for (int lane = 0; lane < kLanes<float>; ++lane) words[lane] = uint32_t(from[lane]) << 16;
  return reinterpret_cast<Vector<float>>(words);
#endif
}

// The nearest bfloat16 numbers, of two the even one; a NaN stays one.
ZFK_INLINE void narrow(Vector<float> value, uint16_t* to) {
  const Vector<uint32_t> words = reinterpret_cast<Vector<uint32_t>>(value);
  const Vector<uint32_t> nearest = (words + 0x7fffu + ((words >> 16) & 1u)) >> 16;
  const auto nan = value != value;
  const Vector<uint32_t> halves = nan ? (words >> 16) | 0x40u : nearest;
#if ZFK_VECTOR_BYTES == 64
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_maskz_cvtepi32_epi16(0xffff, reinterpret_cast<__m512i>(halves)));
#elif ZFK_VECTOR_BYTES == 32
  const __m256i packed = _mm256_packus_epi32(reinterpret_cast<__m256i>(halves), reinterpret_cast<__m256i>(halves));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x88)));
#else
  for (int lane = 0; lane < kLanes<float>; ++lane) to[lane] = uint16_t(halves[lane]);
#endif
}

template <class T>
ZFK_INLINE Vector<T> load(const T* from) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return widen(reinterpret_cast<const uint16_t*>(from));
  else
    return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(from);
}

template <class T>
ZFK_INLINE void store(T* to, Vector<T> value) {
  if constexpr (std::is_same_v<T, BFloat16>)
    narrow(value, reinterpret_cast<uint16_t*>(to));
  else
    *reinterpret_cast<typename VectorOf<T>::unaligned*>(to) = value;
}

// An integer as wide as T, and one for each lane.
template <class T>
using Integer = std::conditional_t<sizeof(Wide<T>) == 4, int32_t, int64_t>;
template <class T>
using Integers = Vector<Integer<T>>;

// A byte for each lane.
template <class T>
ZFK_INLINE Integers<T> load_bytes(const uint8_t* from) {
#if ZFK_VECTOR_BYTES >= 32  // GCC converts lane by lane
  uint64_t few = 0;
  if constexpr (kLanes<T> <= 8) std::memcpy(&few, from, kLanes<T>);
  const __m128i bytes =
      kLanes<T> <= 8 ? _mm_cvtsi64_si128(int64_t(few)) : _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
#if ZFK_VECTOR_BYTES == 64
  return reinterpret_cast<Integers<T>>(sizeof(T) == 4 ? _mm512_maskz_cvtepu8_epi32(0xffff, bytes)
                                                      : _mm512_maskz_cvtepu8_epi64(0xff, bytes));
#else
  return reinterpret_cast<Integers<T>>(sizeof(T) == 4 ? _mm256_cvtepu8_epi32(bytes) : _mm256_cvtepu8_epi64(bytes));
#endif
#else
  typedef uint8_t Bytes __attribute__((vector_size(kLanes<T>), aligned(1), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const Bytes*>(from), Integers<T>);
#endif
}

// Of the sum of some values: was there a NaN (or, which costs its users time only, infinities of both signs)? Cheaper
// than comparing each value.
template <class T>
ZFK_INLINE bool has_nan(Vector<T> sum) {
  typedef int64_t Words __attribute__((vector_size(ZFK_VECTOR_BYTES)));
  const Words nan = reinterpret_cast<Words>(sum != sum);
  int64_t any = 0;
#pragma GCC unroll 8
  for (int word = 0; word < kLanes<int64_t>; ++word) any |= nan[word];
  return any != 0;
}

#if ZFK_VECTOR_BYTES == 32
// For each mask of eight lanes the kept ones' numbers, in order, a byte each.
struct KeptLanes {
  uint64_t of[256];
  constexpr KeptLanes() : of{} {
    for (int mask = 0; mask < 256; ++mask)
      for (uint64_t lane = 0, kept = 0; lane < 8; ++lane)
        if (mask >> lane & 1) of[mask] |= lane << 8 * kept++;
  }
};
inline constexpr KeptLanes kKeptLanes;
#endif

// Which lanes are > 0 or NaN if `positive`, else which are not zero: a bit each.
template <class T>
ZFK_INLINE uint32_t nonzero_lanes(Vector<T> x, bool positive) {
#if ZFK_VECTOR_BYTES >= 32
  const auto kept = positive ? ~(x <= 0) : x != 0;
#endif
#if ZFK_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return _mm512_movepi32_mask(reinterpret_cast<__m512i>(kept));
  return _mm512_movepi64_mask(reinterpret_cast<__m512i>(kept));
#elif ZFK_VECTOR_BYTES == 32
  if constexpr (sizeof(T) == 4) return _mm256_movemask_ps(reinterpret_cast<__m256>(kept));
  return _mm256_movemask_pd(reinterpret_cast<__m256d>(kept));
#else
  uint32_t bits = 0;
  for (int lane = 0; lane < kLanes<T>; ++lane) bits |= uint32_t(positive ? !(x[lane] <= 0) : x[lane] != 0) << lane;
  return bits;
#endif
}

// The same of 16 elements.
template <class T>
ZFK_INLINE uint32_t nonzero_bits(const T* from, bool positive) {
  uint32_t bits = 0;
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += kLanes<T>) bits |= nonzero_lanes<T>(load(from + i), positive) << i;
  return bits;
}

// Appends those of 16 elements that nonzero_bits keeps, and their numbers (first, first + 1, …), to two lists; returns
// how many. The lists need room for 16 more.
template <class T>
ZFK_INLINE int64_t keep_nonzero(const T* from, bool positive, int32_t first, T* values, int32_t* numbers) {
#if ZFK_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>) {
    const __mmask16 keep = nonzero_bits(from, positive);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i number = _mm512_add_epi32(lanes, _mm512_set1_epi32(first));
    // Compressed in a register: compressing into memory is slow on some processors.
    _mm512_storeu_ps(values, _mm512_maskz_compress_ps(keep, _mm512_loadu_ps(from)));
    _mm512_storeu_si512(numbers, _mm512_maskz_compress_epi32(keep, number));
    return __builtin_popcount(keep);
  }
#elif ZFK_VECTOR_BYTES == 32
  if constexpr (std::is_same_v<T, float>) {
    const uint32_t bits = nonzero_bits(from, positive);
    int64_t kept = 0;
    for (int32_t half = 0; half < 2; ++half) {
      const uint32_t keep = bits >> 8 * half & 0xff;
      const __m256i lanes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(int64_t(kKeptLanes.of[keep])));
      _mm256_storeu_ps(values + kept, _mm256_permutevar8x32_ps(_mm256_loadu_ps(from + 8 * half), lanes));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(numbers + kept),
                          _mm256_add_epi32(lanes, _mm256_set1_epi32(first + 8 * half)));
      kept += __builtin_popcount(keep);
    }
    return kept;
  }
#endif
  const uint32_t bits = nonzero_bits(from, positive);
  int64_t kept = 0;
  for (int32_t i = 0; i < 16; ++i) {
    values[kept] = from[i];
    numbers[kept] = first + i;
    kept += bits >> i & 1;
  }
  return kept;
}

// The first (kHigh: last) halves of two vectors, their elements taken in turn.
template <bool kHigh, class T>
ZFK_INLINE Vector<T> interleave(Vector<T> a, Vector<T> b) {
  constexpr int kFirst = kHigh ? kLanes<T> / 2 : 0;
#if defined(__clang__)
  return [&]<int... kLane>(std::integer_sequence<int, kLane...>) __attribute__((always_inline)) {
    return __builtin_shufflevector(a, b, (kFirst + kLane / 2 + kLane % 2 * kLanes<T>)...);
  }(std::make_integer_sequence<int, kLanes<T>>());
#else
  Integers<T> order;
#pragma GCC unroll 16
  for (int lane = 0; lane < kLanes<T>; ++lane) order[lane] = kFirst + lane / 2 + lane % 2 * kLanes<T>;
  return __builtin_shuffle(a, b, order);
#endif
}

// Transposes a square of kLanes<T> x kLanes<T>.
template <class T>
ZFK_INLINE void transpose_square(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  constexpr int kSize = kLanes<T>;
  Vector<T> rows[kSize], turned[kSize];
#pragma GCC unroll 16
  for (int i = 0; i < kSize; ++i) rows[i] = load(from + i * from_stride);
#pragma GCC unroll 4
  for (int step = 1; step < kSize; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kSize / 2; ++i) {
      turned[2 * i] = interleave<false, T>(rows[i], rows[i + kSize / 2]);
      turned[2 * i + 1] = interleave<true, T>(rows[i], rows[i + kSize / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSize; ++i) rows[i] = turned[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kSize; ++i) store(to + i * to_stride, rows[i]);
}

// Of rows x columns numbers: to[j * to_stride + i] = from[i * from_stride + j].
template <class T>
void transpose(const T* from, int64_t from_stride, int64_t rows, int64_t columns, T* to, int64_t to_stride) {
  constexpr int64_t kSquare = kLanes<T>;
  const int64_t square_rows = rows / kSquare * kSquare, square_columns = columns / kSquare * kSquare;
  for (int64_t j = 0; j < square_columns; j += kSquare)
    for (int64_t i = 0; i < square_rows; i += kSquare)
      transpose_square(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = j < square_columns ? square_rows : 0; i < rows; ++i)
      to[j * to_stride + i] = from[i * from_stride + j];
}

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
