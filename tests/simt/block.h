// A grid of thread blocks, run one block after the other: threads, barriers, warps, shared memory, asynchronous copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.h"
#include "monitor.h"

// Not instrumented: what the emulator itself reads and writes is no access of the kernel's.
#define SIMT_QUIET __attribute__((no_sanitize("thread")))

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace simt {

constexpr int kWarp = 32;

// The device that is emulated: with compute capability 7 it has no tensor cores that the kernels use. Ops with fewer
// outputs than the least leave the tensor cores to others; tests lower it. A block has at most so much shared memory.
struct EmulatedDevice {
  int major = 9, least_matrix_outputs = 16;
  size_t most_shared_bytes = 232448;
};
inline EmulatedDevice& emulated_device() {
  static EmulatedDevice device;
  return device;
}

// A fault of the kernel that no device would report so clearly.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The stream that kernels have to go to: that of the tensors' device, not the default one.
inline void* current_stream() {
  static int stream;
  return &stream;
}

// Makes the tensors' device the current one while it lives.
class DeviceGuard {
 public:
  DeviceGuard() { ++alive(); }
  ~DeviceGuard() { --alive(); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  static int& alive() {
    static int count = 0;
    return count;
  }
};

inline void check_launch(void* stream) {
  if (!DeviceGuard::alive()) throw Fault("launch: the tensors' device is not the current one");
  if (stream != current_stream()) throw Fault("launch: on another stream than the current one of the tensors' device");
}

struct Copy {
  void* to;
  const void* from;
  size_t bytes, zeros;  // what follows the bytes that are copied
  int group;
};

struct Thread {
  enum State : uint8_t { ready, at_barrier, in_warp, done };

  Fiber fiber;
  dim3 index;
  int rank = 0;
  State state = ready;
  const char* where = "";
  void* offer = nullptr;     // what this lane brings to an operation of its warp
  std::vector<Copy> copies;  // asked for, not yet waited for
  int groups = 0;            // committed so far
  int arrays = 0;            // of shared memory, taken so far

  int lane() const { return rank % kWarp; }
};

struct Warp {
  uint32_t arrived = 0;
  const char* operation = nullptr;
  unsigned epoch = 0;  // how many times __syncwarp has ordered its memory
};

struct SharedArray {
  std::string name;
  std::unique_ptr<char, void (*)(void*)> data;
  size_t bytes;
};

class Block {
 public:
  static Block& current();

  // Runs `body` once for each thread of each block of the grid. Throws a Fault, or what the kernel throws.
  void launch(dim3 grid, dim3 threads, size_t shared_bytes, const std::function<void()>& body);

  Thread& thread() { return *running_; }
  Warp& warp() { return warps_[running_->rank / kWarp]; }
  bool inside() const { return running_ != nullptr; }

  void barrier(const char* where);
  int barrier_or(int vote, const char* where);
  void warp_barrier(uint32_t mask);
  // All lanes of the mask bring something; the last to come runs `action` on what they brought (null for the others).
  // Whether that was this lane.
  bool meet(uint32_t mask, const char* operation, void* offer, void (*action)(void* const*));

  // The next array of the block's dynamic shared memory: the same for each thread that takes its arrays in this order.
  void* take_shared(size_t bytes, size_t element, const char* name);

  void copy_async(void* to, const void* from, size_t bytes, size_t copied, void* pc);
  void commit_copies() { ++running_->groups; }
  void wait_copies(int left);

  void seed(unsigned value) { random_.seed(value), shuffle_ = value != 0; }
  // From now on at most so many blocks of a launch run, spread over its grid in groups of four neighbours; 0: all run.
  void sample(int64_t blocks) { most_blocks_ = blocks; }

  dim3 grid_size, block_size, block_index;
  unsigned epoch() const { return epoch_; }

 private:
  static void thread_body();
  void run_block();
  void begin_block();
  void sweep();
  void release_barrier();
  void pause(Thread::State state, const char* where);
  void fail(const std::string& message);
  void mix_order();

  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Warp> warps_;
  std::vector<int> order_;
  std::vector<SharedArray> shared_;
  size_t shared_bytes_ = 0, shared_taken_ = 0;
  Thread* running_ = nullptr;
  const std::function<void()>* body_ = nullptr;
  int64_t most_blocks_ = 0;
  int count_ = 0, alive_ = 0, votes_ = 0, vote_ = 0;
  unsigned epoch_ = 0;
  bool stopping_ = false, shuffle_ = false;
  std::exception_ptr error_;
  std::mt19937 random_;
};

}  // namespace simt
