// The hot loop of window_avg_pool2d_kernel.cpp; see for_each_isa.h.
#if defined(ZFK_WINDOW_AVG_POOL2D_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_WINDOW_AVG_POOL2D_LOOPS)
#undef ZFK_WINDOW_AVG_POOL2D_LOOPS
#else
#define ZFK_WINDOW_AVG_POOL2D_LOOPS
#endif

#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// out[c] = sum over the taps of an output of cells[tap][c], by `divisor`.
template <class T>
void mean_of_cells(const T* const* cells, const std::vector<int32_t>& taps, Wide<T> divisor, int64_t channels, T* out) {
  constexpr int kTogether = 4;
  int64_t c = 0;
  for (; c + kTogether * kLanes<T> <= channels; c += kTogether * kLanes<T>) {
    Vector<T> sum[kTogether] = {};
    for (const int32_t tap : taps)
#pragma GCC unroll 4
      for (int v = 0; v < kTogether; ++v) sum[v] += load(cells[tap] + c + v * kLanes<T>);
#pragma GCC unroll 4
    for (int v = 0; v < kTogether; ++v) store(out + c + v * kLanes<T>, sum[v] / divisor);
  }
  for (; c < channels; c += kLanes<T>) {
    Vector<T> sum{};
    for (const int32_t tap : taps) sum += load_some(cells[tap] + c, channels - c);
    store_some(out + c, sum / divisor, channels - c);
  }
}

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
