// The hot loop of window_max_pool2d_kernel.cpp; see for_each_isa.h.
#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// Maxima of kVectors vectors of channels, from `count` channels of each cell; kWhole: vectors are full.
template <class T, int kVectors, bool kWhole>
ZFK_INLINE void max_of_channels(const T* const* cells, const int32_t* taps, int64_t tap_count, int64_t c, int64_t count,
                                T* out) {
  Vector<T> best[kVectors], sum[kVectors];
  const auto maxima = [&]<bool kNumbers>(std::bool_constant<kNumbers>) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) best[v] = T(-__builtin_inf()) - Vector<T>{}, sum[v] = Vector<T>{};
    for (int64_t t = 0; t < tap_count; ++t) {
      const T* cell = cells[taps[t]] + c;
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

// out[c] = the first maximum of cells[taps[t]][c] over t; a NaN goes before all numbers, a later NaN before an earlier.
template <class T>
void max_of_cells(const T* const* cells, const int32_t* taps, int64_t tap_count, int64_t channels, T* out) {
  constexpr int kTogether = 4;
  int64_t c = 0;
  for (; c + kTogether * kLanes<T> <= channels; c += kTogether * kLanes<T>)
    max_of_channels<T, kTogether, true>(cells, taps, tap_count, c, 0, out);
  for (; c < channels; c += kLanes<T>) max_of_channels<T, 1, false>(cells, taps, tap_count, c, channels - c, out);
}

}  // namespace zfkernels::cpu::ZFK_ISA
