// Geometry of convolutions and poolings, and tensors by strides, for the host and the device.
#pragma once

#include <cstdint>

#include "primitives.cuh"

namespace zfkernels::cuda {

template <class I>
__host__ __device__ __forceinline__ I ceil_div(I a, I b) {
  return a / b + (a % b > 0);
}
__host__ __device__ __forceinline__ int floor_div(int a, int b) {
  return a / b - (a % b < 0);
}
__host__ __device__ __forceinline__ int floor_mod(int a, int b) {
  return (a % b + b) % b;
}
__host__ __device__ __forceinline__ int round_up(int a, int b) {
  return ceil_div(a, b) * b;
}
// The least number from `at_least` on that is `rest` more than a multiple of `modulus`.
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

// (rows, columns)
struct Pair {
  int rows, columns;
  __host__ __device__ int area() const { return rows * columns; }
};

// A sliding window along one axis, in cells.
struct Axis {
  int kernel, stride, padding, dilation;
  __host__ __device__ int extent() const { return (kernel - 1) * dilation + 1; }
  // Cells from the first to the last that `count` neighbouring windows see.
  __host__ __device__ int span(int count) const { return (count - 1) * stride + extent(); }
};

struct Sliding {
  Axis rows, columns;
  __host__ __device__ int taps() const { return rows.kernel * columns.kernel; }
};

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
