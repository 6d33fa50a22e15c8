// One fiber per CUDA thread: a stack of its own and a switch to and from it, in user space.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) && !defined(SIMT_UCONTEXT)
#define SIMT_UCONTEXT  // the portable way, about ten times slower: it saves the signal mask by a system call
#endif
#if defined(SIMT_UCONTEXT)
#include <ucontext.h>
#endif

namespace simt {

class Fiber {
 public:
  static constexpr size_t kStackBytes = size_t(256) << 10;

  Fiber() = default;
  Fiber(const Fiber&) = delete;
  ~Fiber();

  // The next resume() calls `body` from its beginning, on this fiber's stack. Only `body` of a fiber may call leave().
  void start(void (*body)());
  // From the scheduler: runs the fiber until it leaves.
  void resume();
  // From the fiber: back to the scheduler; returns when the fiber is resumed. `for_good`: it never is.
  void leave(bool for_good);

  bool holds(const void* address) const { return address >= stack_ && address < stack_ + kStackBytes; }

 private:
  static void entry();

  char* stack_ = nullptr;
  size_t used_bytes_ = 0;
  void (*body_)() = nullptr;
#if defined(SIMT_UCONTEXT)
  ucontext_t context_{}, scheduler_{};
#else
  void *context_ = nullptr, *scheduler_ = nullptr;  // saved stack pointers
#endif
  // AddressSanitizer's own record of both stacks.
  void *fake_stack_ = nullptr, *scheduler_fake_stack_ = nullptr;
  const void* scheduler_bottom_ = nullptr;
  size_t scheduler_bytes_ = 0;
};

}  // namespace simt
