// The machine's own operations, each once for nvcc and once for the CPU: without __CUDACC__ the emulator of tests/simt
// stands in for CUDA's headers, and the kernels run there, checked, on machines without a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#else
#include <simt.h>
#endif

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

#if defined(__CUDACC__)

// Arrays carved out of the block's dynamic shared memory; every thread takes them in the same order.
class SharedMemory {
 public:
  template <class T>
  __device__ __forceinline__ T* take(int count, const char*) {
    extern __shared__ __align__(16) unsigned char zfk_shared_memory[];
    T* const array = reinterpret_cast<T*>(zfk_shared_memory + taken_);
    taken_ += (count * int(sizeof(T)) + 15) / 16 * 16;
    return array;
  }

 private:
  int taken_ = 0;
};

// Stops the grid, as PyTorch's own index checks do: what follows would read outside of a tensor.
__device__ __forceinline__ void require(bool condition) {
  if (!condition) __trap();
}

template <class Vector>
__device__ __forceinline__ Vector load_vector(const void* address) {
  return *static_cast<const Vector*>(address);
}
template <class Vector>
__device__ __forceinline__ void store_vector(void* address, Vector value) {
  *static_cast<Vector*>(address) = value;
}

// Read-only global memory where `valid`, else zero.
template <class T>
__device__ __forceinline__ T load_if(bool valid, const T* address) {
  return valid ? __ldg(address) : from_float<T>(0.f);
}
template <class T>
__device__ __forceinline__ void store_shared_if(bool valid, T* address, T value) {
  if (valid) *address = value;
}

__device__ __forceinline__ void multiply_add(float& sum, float a, float b) {
  sum = fmaf(a, b, sum);
}

// The same number; what is computed from it stays where it is written, and holds no register outside of a loop.
__device__ __forceinline__ int in_place(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// kBytes (4 or 16) from global to shared memory, which arrive at wait_copies; zeros unless `valid`.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* to, const void* from, bool valid) {
#if __CUDA_ARCH__ >= 800
  const unsigned address = unsigned(__cvta_generic_to_shared(to));
  const int copied = valid ? kBytes : 0;
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(copied) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(copied) : "memory");
#else
  if constexpr (kBytes == 16)
    *static_cast<uint4*>(to) = valid ? *static_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
  else
    *static_cast<unsigned*>(to) = valid ? *static_cast<const unsigned*>(from) : 0;
#endif
}

__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until at most kLeft of the groups that this thread committed are under way.
template <int kLeft>
__device__ __forceinline__ void wait_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
}

// Four 8 x 8 matrices of 16-bit words (or 8 x 4 of 32 bits); lane 8 i + r names row r of matrix i.
__device__ __forceinline__ void load_matrices(uint32_t (&fragment)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(unsigned(__cvta_generic_to_shared(row)))
               : "memory");
}

#define ZFK_MMA(shape, types)                                       \
  asm volatile("mma.sync.aligned." shape ".row.col.f32." types      \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}," \
               " {%0, %1, %2, %3};"                                 \
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

// c[16, 8] += a b, with 32 bytes of a row of a and of a column of b. The launch sees to it that no older device comes
// here: sm_75 has neither bfloat16 nor tf32.
template <class T>
__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  if constexpr (sizeof(T) == 4)
    ZFK_MMA("m16n8k8", "tf32.tf32");
  else if constexpr (std::is_same_v<T, Half>)
    ZFK_MMA("m16n8k16", "f16.f16");
  else
    ZFK_MMA("m16n8k16", "bf16.bf16");
#else
  __trap();
#endif
}
#undef ZFK_MMA

// To the nearest number with 10 bits behind the point, as the tensor cores read them.
__device__ __forceinline__ uint32_t to_tf32(float value) {
  uint32_t bits = 0;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
#endif
  return bits;
}

using Stream = cudaStream_t;

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads, int shared_bytes, Stream stream,
            const Arguments&... arguments) {
  if (shared_bytes > (48 << 10))
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes), name);
  kernel<<<grid, threads, shared_bytes, stream>>>(arguments...);
  check(cudaGetLastError(), name);
}

inline Device current_device() {
  int device = 0;
  Device found{0, 0, 16};
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&found.major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&found.most_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "cudaDeviceGetAttribute");
  return found;
}

#else  // the CPU

class SharedMemory {
 public:
  template <class T>
  T* take(int count, const char* name) {
    return static_cast<T*>(simt::Block::current().take_shared(count * sizeof(T), sizeof(T), name));
  }
};

inline void require(bool condition) {
  if (!condition) throw simt::Fault("an index lies outside of its tensor");
}

using simt::load_if;
using simt::load_vector;
using simt::store_shared_if;
using simt::store_vector;

__forceinline__ void multiply_add(float& sum, float a, float b) {
#if defined(SIMT_RECORD)
  if (simt::monitor()) simt::monitor()->multiply_adds(1);
#endif
  sum += a * b;
}

__forceinline__ int in_place(int value) {
  return value;
}

template <int kBytes>
__forceinline__ void copy_async(void* to, const void* from, bool valid) {
  simt::copy_async(to, from, kBytes, valid ? kBytes : 0);
}
inline void commit_copies() {
  simt::Block::current().commit_copies();
}
template <int kLeft>
void wait_copies() {
  simt::Block::current().wait_copies(kLeft);
}

__forceinline__ void load_matrices(uint32_t (&fragment)[4], const void* row) {
  simt::load_matrix(fragment, row);
}
template <class T>
void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (sizeof(T) == 4)
    simt::multiply<simt::Tf32>(c, a, b);
  else if constexpr (std::is_same_v<T, Half>)
    simt::multiply<simt::Half>(c, a, b);
  else
    simt::multiply<simt::Bfloat16>(c, a, b);
}
inline uint32_t to_tf32(float value) {
  return value != value ? 0x7fffffffu : (simt::bits_of(value) + 0x1000u) & 0xffffe000u;
}

using Stream = void*;

template <class... Parameters, class... Arguments>
void launch(const char*, void (*kernel)(Parameters...), dim3 grid, int threads, int shared_bytes, Stream stream,
            const Arguments&... arguments) {
  simt::check_launch(stream);
  if (simt::monitor())
    simt::monitor()->launch(reinterpret_cast<const void*>(kernel), int64_t(grid.x) * grid.y, threads, shared_bytes);
  simt::Block::current().launch(grid, dim3(threads), shared_bytes, [&] { kernel(arguments...); });
}

inline Device current_device() {
  const simt::EmulatedDevice& device = simt::emulated_device();
  return {device.major, int(device.most_shared_bytes), device.least_matrix_outputs};
}

#endif

}  // namespace zfkernels::cuda
