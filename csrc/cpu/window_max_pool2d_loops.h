// The hot loop of window_max_pool2d_kernel.cpp; see for_each_isa.h.
#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// Maxima of kVectors vectors of channels, from `count` channels of each cell; kWhole: vectors are full. The next
// output's fresh cells are fetched meanwhile: the processor does not foresee so many short runs of memory.
template <class T, int kVectors, bool kWhole>
ZFK_INLINE void max_of_channels(const T* const* cells, const std::vector<int32_t>& taps, const T* const* next,
                                const std::vector<int32_t>& fresh, int64_t c, int64_t count, T* out) {
  for (const int32_t tap : fresh)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v += std::max<int>(1, 64 / sizeof(Vector<T>)))
      __builtin_prefetch(next[tap] + c + v * kLanes<T>);
  Vector<T> best[kVectors], sum[kVectors];
  const auto maxima = [&]<bool kNumbers>(std::bool_constant<kNumbers>) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) best[v] = broadcast<T>(-__builtin_inf()), sum[v] = Vector<T>{};
    for (const int32_t tap : taps) {
      const T* cell = cells[tap] + c;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Vector<T> value = kWhole ? load(cell + v * kLanes<T>) : load_some(cell, count);
        if constexpr (kNumbers)
          sum[v] += value, best[v] = value > best[v] ? value : best[v];
        else
          best[v] = (value > best[v]) | (value != value) ? value : best[v];
      }
    }
  };
  maxima(std::true_type());
#pragma GCC unroll 4
  for (int v = 1; v < kVectors; ++v) sum[0] += sum[v];
  if (has_nan<T>(sum[0])) maxima(std::false_type());
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    if constexpr (kWhole)
      store(out + c + v * kLanes<T>, best[v]);
    else
      store_some(out + c, best[v], count);
  }
}

// out[c] = the first maximum of cells[tap][c] over the taps of an output; a NaN goes before all numbers, a later NaN
// before an earlier. `next` and `fresh`: the cells of the next output, and those taps of it that this one does not read
// if it is its neighbour.
template <class T>
void max_of_cells(const T* const* cells, const std::vector<int32_t>& taps, const T* const* next,
                  const std::vector<int32_t>& fresh, int64_t channels, T* out) {
  constexpr int kTogether = 4;
  int64_t c = 0;
  for (; c + kTogether * kLanes<T> <= channels; c += kTogether * kLanes<T>)
    max_of_channels<T, kTogether, true>(cells, taps, next, fresh, c, 0, out);
  for (; c < channels; c += kLanes<T>) max_of_channels<T, 1, false>(cells, taps, next, fresh, c, channels - c, out);
}

}  // namespace zfkernels::cpu::ZFK_ISA
