// What the emulator tells a monitor. Only the race and traffic runtime (race.cpp, traffic.cpp) has one; the other
// builds pay for a test of a pointer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

enum class Access : uint8_t { load, store, atomic };

struct Monitor {
  virtual ~Monitor() = default;
  // `element` bytes are one number: two threads may write neighbouring ones.
  virtual void array(const char* name, const void* data, size_t bytes, size_t element, bool shared) = 0;
  virtual void launch(const void* kernel, int64_t blocks, int threads, size_t shared_bytes) = 0;
  virtual void block_begins() = 0;
  virtual void block_ends() = 0;
  virtual void access(const void* address, size_t bytes, Access kind, void* pc) = 0;
  // An access that a predicate keeps this lane from, while others of its warp make it.
  virtual void skip(Access kind, bool shared, void* pc) = 0;
  // An asynchronous copy to shared memory: asked for, and arrived.
  virtual void copy_begins(const void* to, size_t bytes, void* pc) = 0;
  virtual void copy_lands(const void* to, size_t bytes) = 0;
  virtual void multiply_adds(int64_t count) = 0;
};

inline Monitor*& monitor() {
  static Monitor* current = nullptr;
  return current;
}

}  // namespace simt
