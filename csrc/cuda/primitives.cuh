// The machine's own operations: shared memory, asynchronous copies, tensor cores, launches. Not `#pragma once`: whoever
// has other operations of the same names defines this guard.
#if !defined(ZFK_PRIMITIVES)
#define ZFK_PRIMITIVES

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "numbers.cuh"

namespace zfkernels::cuda {

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

}  // namespace zfkernels::cuda

#endif
