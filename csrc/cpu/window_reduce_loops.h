// The hot loop of window_reduce_kernel.cpp; see for_each_isa.h.
#if defined(ZFK_WINDOW_REDUCE_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_WINDOW_REDUCE_LOOPS)
#undef ZFK_WINDOW_REDUCE_LOOPS
#else
#define ZFK_WINDOW_REDUCE_LOOPS
#endif

#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// to[c] = a[c] + b[c] (kMax: the larger; a NaN goes before all numbers) of `count` channels; `to` may be a.
template <class T, bool kMax>
ZFK_INLINE void combine_channels(const Wide<T>* a, const T* b, int64_t count, Wide<T>* to) {
  for (int64_t c = 0; c < count; c += kLanes<T>) {
    const Vector<T> x = load_some(a + c, count - c), y = load_some(b + c, count - c);
    const Vector<T> larger = (y > x) | (y != y) ? y : x;
    store_some(to + c, kMax ? larger : x + y, count - c);
  }
}

template <class T>
void combine(const Wide<T>* a, const T* b, int64_t count, bool max, Wide<T>* to) {
  max ? combine_channels<T, true>(a, b, count, to) : combine_channels<T, false>(a, b, count, to);
}

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
