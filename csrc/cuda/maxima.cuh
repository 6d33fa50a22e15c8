// Max-pooling of kPack neighbouring channels, with switches and without.
#pragma once

#include "geometry.cuh"

namespace zfkernels::cuda {

// The maxima so far and, with switches, their codes; the first of equal values stays, of several NaNs the last.
template <class T, int kPack, bool kSwitches>
struct Maxima {
  Pack<T, kPack> best;
  Pack<uint8_t, kSwitches ? kPack : 1> code;

  __device__ __forceinline__ explicit Maxima(int first_code = 0) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      best.item[i] = from_float<T>(-INFINITY);
      if constexpr (kSwitches) code.item[i] = uint8_t(first_code);
    }
  }

  __device__ __forceinline__ void meet(const Pack<T, kPack>& cell, int code_of_cell = 0) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float value = to_float(cell.item[i]);
      if (value > to_float(best.item[i]) || value != value) {
        best.item[i] = cell.item[i];
        if constexpr (kSwitches) code.item[i] = uint8_t(code_of_cell);
      }
    }
  }
};

}  // namespace zfkernels::cuda
