// The numbers that kernels are made for, and what the launches of all of them ask of the device.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace zfkernels::cuda {

using Half = __half;
using BFloat16 = __nv_bfloat16;

// What the kernels are made for.
#define ZFK_FOR_DTYPES(make) make(float) make(Half) make(BFloat16)

__device__ __forceinline__ float to_float(float value) {
  return value;
}
__device__ __forceinline__ float to_float(Half value) {
  return __half2float(value);
}
__device__ __forceinline__ float to_float(BFloat16 value) {
  return __bfloat162float(value);
}

template <class T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ Half from_float<Half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __forceinline__ BFloat16 from_float<BFloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// max(value, 0), NaN stays NaN.
__device__ __forceinline__ float rectified(float value) {
  return value < 0.f ? 0.f : value;
}

// What the current device can do, and from how many outputs of a group on its tensor cores are worth their tiles.
struct Device {
  int major, most_shared_bytes, least_matrix_outputs;

  bool multiplies_matrices(int outputs) const { return major >= 8 && outputs >= least_matrix_outputs; }
};

}  // namespace zfkernels::cuda
