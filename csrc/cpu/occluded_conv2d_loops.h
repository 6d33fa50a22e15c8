// The hot loops of occluded_conv2d_kernel.cpp; see for_each_isa.h.
#if defined(ZFK_OCCLUDED_CONV2D_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_OCCLUDED_CONV2D_LOOPS)
#undef ZFK_OCCLUDED_CONV2D_LOOPS
#else
#define ZFK_OCCLUDED_CONV2D_LOOPS
#endif

#include "tile_conv2d_loops.h"
#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// From the columns of taps `clean` and `covered` [taps, plane] of `count` channels of one output, its value for every
// way in which the square can cover a first or a last part of them:
//   sums[j]        = bias + covered[0] + … + covered[j - 1] + clean[j] + … + clean[taps - 1]      for j = 0 … taps
//   sums[taps + j] = bias + clean[0] + … + clean[j - 1] + covered[j] + … + covered[taps - 1]      for j = 1 … taps - 1
// then the ReLU. Nothing is subtracted: no digit is lost.
template <class T>
void sum_columns(const T* clean, const T* covered, int64_t taps, int64_t plane, int64_t count, const T* bias, bool relu,
                 T* sums) {
  const Vector<T> zero{};
  for (int64_t c = 0; c < count; c += kLanes<T>) {
    const int64_t rest = count - c;
    Vector<T> clean_before = bias ? load_some(bias + c, rest) : zero, covered_before = clean_before;
    for (int64_t j = 0; j < taps; ++j) {
      store_some(sums + j * plane + c, covered_before, rest);
      if (j > 0) store_some(sums + (taps + j) * plane + c, clean_before, rest);
      covered_before += load_some(covered + j * plane + c, rest);
      clean_before += load_some(clean + j * plane + c, rest);
    }
    const auto rectify = [&](Vector<T> value) __attribute__((always_inline)) {
      return relu ? (value < 0 ? zero : value) : value;  // a NaN stays
    };
    store_some(sums + taps * plane + c, rectify(covered_before), rest);
    Vector<T> clean_after{}, covered_after{};
    for (int64_t j = taps - 1; j >= 0; --j) {
      clean_after += load_some(clean + j * plane + c, rest);
      covered_after += load_some(covered + j * plane + c, rest);
      T* first = sums + j * plane + c;
      store_some(first, rectify(load_some(first, rest) + clean_after), rest);
      T* last = sums + (taps + j) * plane + c;
      if (j > 0) store_some(last, rectify(load_some(last, rest) + covered_after), rest);
    }
  }
}

// Copies to memory that is not read again soon, past the caches where the instruction set has stores for that: whole
// lines need not be fetched only to be overwritten.
template <class T>
void copy_past_caches(T* to, const T* from, int64_t count) {
  int64_t i = 0;
#if ZFK_VECTOR_BYTES >= 32
  while (i < count && reinterpret_cast<uintptr_t>(to + i) % ZFK_VECTOR_BYTES != 0) to[i] = from[i], ++i;
  for (; i + kLanes<T> <= count; i += kLanes<T>) {
#if ZFK_VECTOR_BYTES == 64
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), reinterpret_cast<__m512i>(load(from + i)));
#else
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i), reinterpret_cast<__m256i>(load(from + i)));
#endif
  }
#endif
  std::memcpy(to + i, from + i, (count - i) * sizeof(T));
}

// Before another thread may read what copy_past_caches wrote.
inline void fence_copies() {
#if ZFK_VECTOR_BYTES >= 32
  _mm_sfence();
#endif
}

// out = bias + the columns of taps, those in [from, to) covered and the others clean, then the ReLU.
template <class T>
void sum_between(const T* clean, const T* covered, int64_t taps, int64_t plane, int64_t from, int64_t to, int64_t count,
                 const T* bias, bool relu, T* out) {
  for (int64_t c = 0; c < count; c += kLanes<T>) {
    const int64_t rest = count - c;
    Vector<T> sum = bias ? load_some(bias + c, rest) : Vector<T>{};
    for (int64_t j = 0; j < taps; ++j) sum += load_some((j >= from && j < to ? covered : clean) + j * plane + c, rest);
    if (relu) sum = sum < 0 ? Vector<T>{} : sum;
    store_some(out + c, sum, rest);
  }
}

template <class T>
inline constexpr OccludedLoops<T> kOccludedLoops{.sum_columns = sum_columns<T>,
                                                 .sum_between = sum_between<T>,
                                                 .copy_past_caches = copy_past_caches<T>,
                                                 .fence_copies = fence_copies};

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
