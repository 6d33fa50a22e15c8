// The hot loop of window_max_pool2d_kernel.cpp; see for_each_isa.h.
#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// out[c] = the first maximum of cells[taps[t]][c] over t; a NaN goes before all numbers, a later NaN before an earlier.
template <class T>
void max_of_cells(const T* const* cells, const int32_t* taps, int64_t tap_count, int64_t channels, T* out) {
  for (int64_t c = 0; c < channels; c += kLanes<T>) {
    Vector<T> best = load_some(cells[taps[0]] + c, channels - c);
    for (int64_t t = 1; t < tap_count; ++t) {
      const Vector<T> value = load_some(cells[taps[t]] + c, channels - c);
      best = (value > best) | (value != value) ? value : best;
    }
    store_some(out + c, best, channels - c);
  }
}

}  // namespace zfkernels::cpu::ZFK_ISA
