// Geometry as CUDA's kernels count it, and tensors by strides, for the host and the device.
#pragma once

#include <cstdint>

#include "../common/geometry.h"
#include "primitives.cuh"

namespace zfkernels::cuda {

using Pair = PairOf<int>;
using Axis = AxisOf<int>;
using Sliding = SlidingOf<int>;

// Smallest n >= at_least with n = rest (mod modulus).
__host__ __device__ __forceinline__ int congruent(int at_least, int rest, int modulus) {
  return at_least + floor_mod(rest - at_least, modulus);
}
__host__ __device__ __forceinline__ int larger(int a, int b) {
  return a > b ? a : b;
}
__host__ __device__ __forceinline__ int smaller(int a, int b) {
  return a < b ? a : b;
}

// A grid of so many blocks along x.
inline dim3 grid_of(int64_t blocks, int64_t along_y = 1) {
  if (blocks > INT32_MAX || along_y > 65535) throw std::runtime_error("expected fewer outputs: a grid is too large");
  return dim3(unsigned(blocks), unsigned(along_y));
}

// [N, C, H, W] of any strides, in elements.
template <class T>
struct View {
  T* data;
  int64_t stride[4];
  __host__ __device__ T* at(int64_t n, int64_t c, int64_t y, int64_t x) const {
    return data + n * stride[0] + c * stride[1] + y * stride[2] + x * stride[3];
  }
};

// kCount neighbouring numbers, read and written at once.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T item[kCount];
};

template <class T, int kCount>
__device__ __forceinline__ Pack<T, kCount> load_pack(const T* from) {
  return load_vector<Pack<T, kCount>>(from);
}
template <class T, int kCount>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, kCount>& pack) {
  if constexpr (kCount == 1)
    *to = pack.item[0];
  else
    store_vector(static_cast<void*>(to), pack);
}

}  // namespace zfkernels::cuda
