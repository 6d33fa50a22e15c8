// What fits into the processor's caches, by which kernels cut up their work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace zfkernels::cpu {

// So many bytes, or fewer where the environment variable ZFKERNELS_CPU_CACHE says so: tests lower it, and small tensors
// go the ways of large ones. Asked once for each call of an op.
inline int64_t cached_bytes(int64_t bytes) {
  const char* const most = std::getenv("ZFKERNELS_CPU_CACHE");
  return most ? std::clamp<int64_t>(std::atoll(most), 1, bytes) : bytes;
}

}  // namespace zfkernels::cpu
