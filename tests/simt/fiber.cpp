#include "fiber.h"

#include <sys/mman.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(SIMT_UCONTEXT)
// Saves what a call must preserve and the stack pointer, and continues on another stack where that was left.
extern "C" void simt_switch(void** from, void* to);
asm(R"(
.text
.local simt_switch
.type simt_switch, @function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch, . - simt_switch
)");
#endif

namespace simt {
namespace {

thread_local Fiber* running = nullptr;

// Stacks begin at different places in their pages: at the same one, all of them would share a few lines of the cache.
constexpr size_t kStagger = 1088, kPlaces = 61;
size_t next_place = 0;

}  // namespace

Fiber::~Fiber() {
  if (stack_) munmap(stack_, kStackBytes);
}

void Fiber::start(void (*body)()) {
  body_ = body;
  fake_stack_ = nullptr;
  if (!stack_) {
    void* memory =
        mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    stack_ = static_cast<char*>(memory);
    used_bytes_ = kStackBytes - next_place++ % kPlaces * kStagger;
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, kStackBytes);
#endif
#if defined(SIMT_UCONTEXT)
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = used_bytes_;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::entry, 0);
#else
  void** top = reinterpret_cast<void**>(stack_ + used_bytes_ / 64 * 64 - 64);
  *--top = nullptr;  // the return address of entry, which never returns
  *--top = reinterpret_cast<void*>(&Fiber::entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  context_ = top;
#endif
}

void Fiber::entry() {
  Fiber& fiber = *running;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &fiber.scheduler_bottom_, &fiber.scheduler_bytes_);
#endif
  fiber.body_();
  fiber.leave(true);
  __builtin_trap();
}

void Fiber::resume() {
  running = this;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake_stack_, stack_, kStackBytes);
#endif
#if defined(SIMT_UCONTEXT)
  swapcontext(&scheduler_, &context_);
#else
  simt_switch(&scheduler_, context_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::leave([[maybe_unused]] bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack_, scheduler_bottom_, scheduler_bytes_);
#endif
#if defined(SIMT_UCONTEXT)
  swapcontext(&context_, &scheduler_);
#else
  simt_switch(&context_, scheduler_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &scheduler_bottom_, &scheduler_bytes_);
#endif
}

}  // namespace simt
