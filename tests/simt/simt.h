// CUDA's words for g++ and clang++: device code that includes this instead of CUDA's headers, and primitives.cuh of
// this folder, runs on the CPU, one fiber per thread of a block. See README.md of this folder.
#pragma once

#include <algorithm>
#include <cmath>

#include "block.h"
#include "narrow.h"
#include "warp.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

#define SIMT_TEXT_(x) #x
#define SIMT_TEXT(x) SIMT_TEXT_(x)
#define SIMT_HERE __FILE__ ":" SIMT_TEXT(__LINE__)
#define SIMT_PC __builtin_extract_return_addr(__builtin_return_address(0))

#define threadIdx (simt::Block::current().thread().index)
#define blockIdx (simt::Block::current().block_index)
#define blockDim (simt::Block::current().block_size)
#define gridDim (simt::Block::current().grid_size)
#define __syncthreads() simt::Block::current().barrier(SIMT_HERE)
#define __syncthreads_or(vote) simt::Block::current().barrier_or(vote, SIMT_HERE)

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

using std::max;
using std::min;

template <class T>
T __ldg(const T* address) {
  return *address;
}
inline float __uint_as_float(unsigned bits) {
  return simt::float_of(bits);
}
inline unsigned __float_as_uint(float value) {
  return simt::bits_of(value);
}
inline int __popc(unsigned bits) {
  return __builtin_popcount(bits);
}
inline int __ffs(int bits) {
  return __builtin_ffs(bits);
}

namespace simt {

template <class T, class Update>
SIMT_QUIET __attribute__((noinline)) T atomically(T* address, Update update) {
  if (monitor()) monitor()->access(address, sizeof(T), Access::atomic, SIMT_PC);
  const T old = *address;
  *address = update(old);
  return old;
}

// cp.async: `copied` of the bytes come from `from`, zeros follow. noinline: the caller's address names the line.
inline SIMT_QUIET __attribute__((noinline)) void copy_async(void* to, const void* from, int bytes, int copied) {
  Block::current().copy_async(to, from, bytes, copied, SIMT_PC);
}

template <int kCount>
SIMT_QUIET __attribute__((noinline)) void load_matrix(uint32_t (&fragment)[kCount], const void* row) {
  load_matrices(fragment, row, SIMT_PC);
}

// One access of 8 or 16 bytes.
template <class Vector>
SIMT_QUIET __attribute__((noinline)) Vector load_vector(const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % sizeof(Vector)) throw Fault("a vector load off its alignment");
  if (monitor()) monitor()->access(address, sizeof(Vector), Access::load, SIMT_PC);
  return *static_cast<const Vector*>(address);
}
template <class Vector>
SIMT_QUIET __attribute__((noinline)) void store_vector(void* address, Vector value) {
  if (reinterpret_cast<uintptr_t>(address) % sizeof(Vector)) throw Fault("a vector store off its alignment");
  if (monitor()) monitor()->access(address, sizeof(Vector), Access::store, SIMT_PC);
  *static_cast<Vector*>(address) = value;
}

// A load from global memory, and a store to shared memory, that a predicate guards.
template <class T>
SIMT_QUIET __attribute__((noinline)) T load_if(bool valid, const T* address) {
  if (monitor()) {
    valid ? monitor()->access(address, sizeof(T), Access::load, SIMT_PC)
          : monitor()->skip(Access::load, false, SIMT_PC);
  }
  return valid ? *address : T{};
}
template <class T>
SIMT_QUIET __attribute__((noinline)) void store_shared_if(bool valid, T* address, T value) {
  if (monitor()) {
    valid ? monitor()->access(address, sizeof(T), Access::store, SIMT_PC)
          : monitor()->skip(Access::store, true, SIMT_PC);
  }
  if (valid) *address = value;
}

}  // namespace simt

template <class T>
T atomicAdd(T* address, T value) {
  return simt::atomically(address, [value](T old) { return T(old + value); });
}
template <class T>
T atomicMax(T* address, T value) {
  return simt::atomically(address, [value](T old) { return std::max(old, value); });
}
template <class T>
T atomicCAS(T* address, T expected, T value) {
  return simt::atomically(address, [expected, value](T old) { return old == expected ? value : old; });
}
