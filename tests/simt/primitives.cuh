// The operations of csrc/cuda/primitives.cuh on the CPU, checked: compilation.py has the kernels include this first.
#if !defined(ZFK_PRIMITIVES)
#define ZFK_PRIMITIVES

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "numbers.cuh"
#include "simt.h"

namespace zfkernels::cuda {

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

}  // namespace zfkernels::cuda

#endif
