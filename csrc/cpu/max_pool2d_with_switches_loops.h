// The hot loops of max_pool2d_with_switches_kernel.cpp; see for_each_isa.h.
#if defined(ZFK_MAX_POOL2D_WITH_SWITCHES_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_MAX_POOL2D_WITH_SWITCHES_LOOPS)
#undef ZFK_MAX_POOL2D_WITH_SWITCHES_LOOPS
#else
#define ZFK_MAX_POOL2D_WITH_SWITCHES_LOOPS
#endif

#include "max_pool_loops.h"
#include "vectors.h"

namespace zfkernels::cpu::ZFK_ISA {

// The outputs of a row from the taps under them: rows[ky] + taps[kx] points to that tap of the first output, the other
// outputs' follow. first_code: the first tap of each output that is no padding; all rows of taps from `top` on exist.
template <class T>
void pool_row(const T* const* rows, int64_t top, int64_t bottom, const int64_t* taps, int64_t tap_count,
              const int32_t* first_code, int64_t count, T* values, uint8_t* codes) {
  typedef int32_t Narrow __attribute__((vector_size(4 * kLanes<T>), aligned(4), may_alias));
  for (int64_t x = 0; x < count; x += kLanes<T>) {
    const auto pooled = [&]<bool kNumbers>(std::bool_constant<kNumbers>) __attribute__((always_inline)) {
      auto best = Best<T, true>::of_none(
          __builtin_convertvector(*reinterpret_cast<const Narrow*>(first_code + x), Integers<T>) +
          int(top * tap_count));
      for (int64_t ky = top; ky < bottom; ++ky)
        for (int64_t kx = 0; kx < tap_count; ++kx)
          best.template meet<kNumbers>(load(rows[ky] + taps[kx] + x), int(ky * tap_count + kx));
      return best;
    };
    auto best = pooled(std::true_type());
    if (has_nan<T>(best.sum)) best = pooled(std::false_type());
    best.put(values, codes, x, count - x);
  }
}

// The taps of an output at equal distances.
template <class T>
struct StridedTaps {
  const T* first;  // tap, possibly in the padding
  const Taps& at;

  ZFK_INLINE StridedTaps from(int64_t channel) const { return {first + channel, at}; }
  ZFK_INLINE int first_code() const { return int(at.top * at.columns + at.left); }
  template <class Visit>
  ZFK_INLINE void for_each(const Visit& visit) const {
    for (int64_t ky = at.top; ky < at.bottom; ++ky)
      for (int64_t kx = at.left; kx < at.end; ++kx)
        visit(first + ky * at.down + kx * at.right, int(ky * at.columns + kx));
  }
  template <class Visit>
  ZFK_INLINE void for_next(const Visit& visit) const {
    for (int64_t ky = at.top; ky < at.bottom; ++ky)
      for (int64_t kx = at.fresh; kx < at.columns; ++kx) visit(first + ky * at.down + kx * at.right + at.next);
  }
};

// All channels of one output; those of a cell lie side by side.
template <class T>
void pool_cell(const T* from, const Taps& taps, int64_t channels, T* values, uint8_t* codes) {
  pool_output<T, true>(StridedTaps<T>{from, taps}, channels, values, codes);
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

template <class T>
inline constexpr PoolLoops<T> kPoolLoops{
    .lanes = kLanes<T>, .pool_cell = pool_cell<T>, .pool_row = pool_row<T>, .deal_out = deal_out<T>};

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
