// One kernel in several states: right, and with a bug planted that the emulator has to name.
//
// sum[i] of each block's 128 numbers and their predecessors, by way of shared memory filled by cp.async.
#pragma once

#include "primitives.cuh"

namespace planted {

using zfkernels::cuda::SharedMemory;

enum class Bug {
  none,
  missing_barrier,
  missing_async_wait,
  divergent_barrier,
  early_exit,
  deadlock,
  shared_overrun,
  global_overrun,
  plain_add,
  off_by_one_origin,
  divergent_warp,
  misaligned_copy,
  too_much_shared,
  write_after_two_reads,
  other_device,
  default_stream,
};

constexpr int kThreads = 128;

// numbers [blocks * 128 + 1]: a window of the frame that begins at `origin`; sums [blocks * 128]; total [1].
template <Bug kBug>
__global__ void sums_of_neighbours(const float* numbers, float* sums, float* total, int origin) {
  SharedMemory shared;
  constexpr int kCount = kBug == Bug::too_much_shared ? 2 * kThreads : kThreads;
  float* const tile = shared.take<float>(kCount, "tile");
  const int thread = threadIdx.x;
  const int64_t place = int64_t(blockIdx.x) * kThreads + thread;
  const int first = kBug == Bug::off_by_one_origin ? origin - 1 : origin;
  if (kBug == Bug::early_exit && thread == 7) return;
  if (kBug == Bug::misaligned_copy) {
    zfkernels::cuda::copy_async<16>(tile + thread / 32 * 4, numbers + 1 + thread / 32 * 4, true);
  } else {
    zfkernels::cuda::copy_async<4>(tile + thread + (kBug == Bug::shared_overrun ? 1 : 0),
                                   numbers + place + first + (kBug == Bug::global_overrun ? 2 : 0), true);
  }
  zfkernels::cuda::commit_copies();
  if (kBug != Bug::missing_async_wait) zfkernels::cuda::wait_copies<0>();
  if (kBug == Bug::divergent_barrier) {
    if (thread < 64)
      __syncthreads();
    else
      __syncthreads();
  } else if (kBug == Bug::deadlock) {
    if (thread)
      __syncthreads();
    else
      __shfl_sync(~0u, 0, 0);
  } else if (kBug != Bug::missing_barrier) {
    __syncthreads();
  }
  if (kBug == Bug::write_after_two_reads && thread == 0) {  // by two blocks, the second of which writes
    volatile float& first = const_cast<float*>(numbers)[0];
    const float seen = first;
    if (blockIdx.x == 1) first = seen + 0.f;
  }
  const float sum = tile[thread] + tile[thread ? thread - 1 : 0];
  sums[place] = sum;
  if (kBug == Bug::divergent_warp) {
    if (thread % 2)
      __shfl_sync(~0u, sum, 0);
    else
      __ballot_sync(~0u, sum > 0);
  }
  if (kBug == Bug::plain_add)
    *total += sum;
  else
    atomicAdd(total, sum);
}

}  // namespace planted
