// The hot loops of max_pool2d_with_switches_kernel.cpp; see for_each_isa.h.
#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// The least byte of each lane, together at the start of a vector of bytes.
template <class T>
ZFK_INLINE void store_bytes(uint8_t* to, Integers<T> codes, int64_t count) {
  typedef uint8_t Bytes __attribute__((vector_size(ZFK_VECTOR_BYTES)));
  Bytes bytes;
#if defined(__clang__)
  typedef uint8_t Narrow __attribute__((vector_size(kLanes<T>)));
  const Narrow narrow = __builtin_convertvector(codes, Narrow);
  std::memcpy(&bytes, &narrow, sizeof narrow);
#else  // GCC converts lane by lane
  Bytes order{};
#pragma GCC unroll 16
  for (int lane = 0; lane < kLanes<T>; ++lane) order[lane] = lane * sizeof(T);
  bytes = __builtin_shuffle(reinterpret_cast<Bytes>(codes), order);
#endif
  if (count >= kLanes<T>)
    std::memcpy(to, &bytes, kLanes<T>);
  else
    std::memcpy(to, &bytes, count);
}

// The maximum so far and its code; the first of equal values stays. `sum` is for has_nan.
template <class T>
struct Best {
  Vector<T> value, sum;
  Integers<T> code;

  ZFK_INLINE static Best of_none(Integers<T> first_code) {
    Best best;
    best.value = broadcast<T>(-__builtin_inf());
    best.sum = Vector<T>{};
    best.code = first_code;
    return best;
  }

  // A NaN goes before all numbers, a later NaN before an earlier; kNumbers leaves that aside.
  template <bool kNumbers>
  ZFK_INLINE void meet(Vector<T> other, int code_of_other) {
    const auto more = other > value;
    if constexpr (kNumbers) {
      sum += other;
      value = more ? other : value;
      code = more ? broadcast<Integer<T>>(code_of_other) : code;
    } else {
      const auto wins = more | (other != other);
      value = wins ? other : value;
      code = wins ? broadcast<Integer<T>>(code_of_other) : code;
    }
  }

  ZFK_INLINE void put(T* values, uint8_t* codes, int64_t count) const {
    store_some(values, value, count);
    store_bytes<T>(codes, code, count);
  }
};

// The outputs of a row from the taps under them: rows[ky] + taps[kx] points to that tap of the first output, the other
// outputs' follow. first_code: the first tap of each output that is no padding; all rows of taps from `top` on exist.
template <class T>
void pool_row(const T* const* rows, int64_t top, int64_t bottom, const int64_t* taps, int64_t tap_count,
              const int32_t* first_code, int64_t count, T* values, uint8_t* codes) {
  typedef int32_t Narrow __attribute__((vector_size(4 * kLanes<T>), aligned(4), may_alias));
  for (int64_t x = 0; x < count; x += kLanes<T>) {
    const auto pooled = [&]<bool kNumbers>(std::bool_constant<kNumbers>) __attribute__((always_inline)) {
      Best<T> best =
          Best<T>::of_none(__builtin_convertvector(*reinterpret_cast<const Narrow*>(first_code + x), Integers<T>) +
                           int(top * tap_count));
      for (int64_t ky = top; ky < bottom; ++ky)
        for (int64_t kx = 0; kx < tap_count; ++kx)
          best.template meet<kNumbers>(load(rows[ky] + taps[kx] + x), int(ky * tap_count + kx));
      return best;
    };
    Best<T> best = pooled(std::true_type());
    if (has_nan<T>(best.sum)) best = pooled(std::false_type());
    best.put(values + x, codes + x, count - x);
  }
}

// Some channels of one output, from `count` of each tap; kWhole: vectors are full.
template <class T, int kVectors, bool kWhole>
ZFK_INLINE void pool_channels(const T* from, const Taps& taps, int64_t count, T* values, uint8_t* codes) {
  const auto pooled = [&]<bool kNumbers>(Best<T>* best, std::bool_constant<kNumbers>) __attribute__((always_inline)) {
    for (int64_t ky = taps.top; ky < taps.bottom; ++ky)
      for (int64_t kx = taps.left; kx < taps.end; ++kx) {
        const T* tap = from + ky * taps.down + kx * taps.right;
        const int code = int(ky * taps.columns + kx);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v)
          best[v].template meet<kNumbers>(kWhole ? load(tap + v * kLanes<T>) : load_some(tap, count), code);
      }
  };
  // The processor does not foresee so many short runs of memory.
  for (int64_t ky = taps.top; ky < taps.bottom; ++ky)
    for (int64_t kx = taps.fresh; kx < taps.columns; ++kx)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v += std::max<int>(1, 64 / sizeof(Vector<T>)))
        __builtin_prefetch(from + ky * taps.down + kx * taps.right + taps.next + v * kLanes<T>);
  const Best<T> start = Best<T>::of_none(broadcast<Integer<T>>(int(taps.top * taps.columns + taps.left)));
  Best<T> best[kVectors];
#pragma GCC unroll 4
  for (Best<T>& each : best) each = start;
  pooled(best, std::true_type());
  Vector<T> sum = best[0].sum;
#pragma GCC unroll 4
  for (int v = 1; v < kVectors; ++v) sum += best[v].sum;
  if (has_nan<T>(sum)) {
#pragma GCC unroll 4
    for (Best<T>& each : best) each = start;
    pooled(best, std::false_type());
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v)
    best[v].put(values + v * kLanes<T>, codes + v * kLanes<T>, kWhole ? kLanes<T> : count);
}

// All channels of one output from its taps; those of a cell lie side by side.
template <class T>
void pool_cell(const T* from, const Taps& taps, int64_t channels, T* values, uint8_t* codes) {
  constexpr int kTogether = 4;
  int64_t c = 0;
  for (; c + kTogether * kLanes<T> <= channels; c += kTogether * kLanes<T>)
    pool_channels<T, kTogether, true>(from + c, taps, 0, values + c, codes + c);
  for (; c < channels; c += kLanes<T>) pool_channels<T, 1, false>(from + c, taps, channels - c, values + c, codes + c);
}

// Every second element of two vectors, from the first or (kOdd) the second on.
template <bool kOdd, class T>
ZFK_INLINE Vector<T> every_second(Vector<T> a, Vector<T> b) {
#if defined(__clang__)
  return [&]<int... kLane>(std::integer_sequence<int, kLane...>) __attribute__((always_inline)) {
    return __builtin_shufflevector(a, b, (2 * kLane + kOdd)...);
  }(std::make_integer_sequence<int, kLanes<T>>());
#else
  Integers<T> order;
#pragma GCC unroll 16
  for (int lane = 0; lane < kLanes<T>; ++lane) order[lane] = 2 * lane + kOdd;
  return __builtin_shuffle(a, b, order);
#endif
}

// Deals `count` elements, the first of them number `first`, out to `stride` arrays that are `pitch` apart: number q
// goes to place q / stride of array q % stride.
template <class T>
void deal_out(const T* from, int64_t step, int64_t count, int64_t first, int64_t stride, T* to, int64_t pitch) {
  if (step == 1 && stride == 1) {
    std::memcpy(to + first, from, count * sizeof(T));
    return;
  }
  int64_t i = 0;
  if (step == 1 && stride == 2) {
    T* even = to + first % 2 * pitch + first / 2;
    T* odd = to + (first + 1) % 2 * pitch + (first + 1) / 2;
    for (; i + 2 * kLanes<T> <= count; i += 2 * kLanes<T>) {
      const Vector<T> a = load(from + i), b = load(from + i + kLanes<T>);
      store(even + i / 2, every_second<false, T>(a, b));
      store(odd + i / 2, every_second<true, T>(a, b));
    }
  }
  int64_t array = (first + i) % stride, place = (first + i) / stride;
  for (; i < count; ++i) {
    to[array * pitch + place] = from[i * step];
    if (++array == stride) array = 0, ++place;
  }
}

}  // namespace zfkernels::cpu::ZFK_ISA
