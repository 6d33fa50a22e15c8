// The hot loop of window_max_pool2d_kernel.cpp; see for_each_isa.h.
#if defined(ZFK_WINDOW_MAX_POOL2D_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_WINDOW_MAX_POOL2D_LOOPS)
#undef ZFK_WINDOW_MAX_POOL2D_LOOPS
#else
#define ZFK_WINDOW_MAX_POOL2D_LOOPS
#endif

#include "max_pool_loops.h"

namespace zfkernels::cpu::ZFK_ISA {

// The taps of an output by way of a table of cells, and those cells of the next output that this one does not read if
// it is its neighbour.
template <class T>
struct TableTaps {
  const T* const* cells;
  const std::vector<int32_t>& taps;
  const T* const* next;
  const std::vector<int32_t>& fresh;
  int64_t channel;

  ZFK_INLINE TableTaps from(int64_t first) const { return {cells, taps, next, fresh, first}; }
  ZFK_INLINE int first_code() const { return 0; }
  template <class Visit>
  ZFK_INLINE void for_each(const Visit& visit) const {
    for (const int32_t tap : taps) visit(cells[tap] + channel, 0);
  }
  template <class Visit>
  ZFK_INLINE void for_next(const Visit& visit) const {
    for (const int32_t tap : fresh) visit(next[tap] + channel);
  }
};

// out[c] = the first maximum of cells[tap][c] over the taps of an output; a NaN goes before all numbers, a later NaN
// before an earlier.
template <class T>
void max_of_cells(const T* const* cells, const std::vector<int32_t>& taps, const T* const* next,
                  const std::vector<int32_t>& fresh, int64_t channels, T* out) {
  pool_output<T, false>(TableTaps<T>{cells, taps, next, fresh, 0}, channels, out, nullptr);
}

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
