// What code compiled with -fsanitize=thread calls. ThreadSanitizer's own library is not linked: it knows nothing of
// CUDA's barriers, and took a correct kernel for a hundred races.
#include <cstdint>

#include "monitor.h"

namespace {

inline void access(const void* address, size_t bytes, simt::Access kind, void* pc) {
  if (simt::monitor()) simt::monitor()->access(address, bytes, kind, pc);
}

}  // namespace

#define SIMT_EXPORT __attribute__((visibility("default")))

extern "C" {
#define SIMT_ACCESS(name, bytes, kind)                                       \
  SIMT_EXPORT void name(void* address) {                                     \
    access(address, bytes, simt::Access::kind, __builtin_return_address(0)); \
  }
#define SIMT_ACCESSES(bytes)                             \
  SIMT_ACCESS(__tsan_read##bytes, bytes, load)           \
  SIMT_ACCESS(__tsan_write##bytes, bytes, store)         \
  SIMT_ACCESS(__tsan_unaligned_read##bytes, bytes, load) \
  SIMT_ACCESS(__tsan_unaligned_write##bytes, bytes, store)
SIMT_ACCESSES(1)
SIMT_ACCESSES(2)
SIMT_ACCESSES(4)
SIMT_ACCESSES(8)
SIMT_ACCESSES(16)

// Whole structures.
SIMT_EXPORT void __tsan_read_range(void* address, size_t bytes) {
  access(address, bytes, simt::Access::load, __builtin_return_address(0));
}
SIMT_EXPORT void __tsan_write_range(void* address, size_t bytes) {
  access(address, bytes, simt::Access::store, __builtin_return_address(0));
}

// Of the host's code; of no interest.
SIMT_EXPORT void __tsan_init() {}
SIMT_EXPORT void __tsan_func_entry(void*) {}
SIMT_EXPORT void __tsan_func_exit() {}
SIMT_EXPORT void __tsan_vptr_read(void*) {}
SIMT_EXPORT void __tsan_vptr_update(void**, void*) {}
#define SIMT_ATOMICS(bits, type)                                                         \
  SIMT_EXPORT type __tsan_atomic##bits##_load(const volatile type* from, int) {          \
    return __atomic_load_n(from, __ATOMIC_SEQ_CST);                                      \
  }                                                                                      \
  SIMT_EXPORT void __tsan_atomic##bits##_store(volatile type* to, type value, int) {     \
    __atomic_store_n(to, value, __ATOMIC_SEQ_CST);                                       \
  }                                                                                      \
  SIMT_EXPORT type __tsan_atomic##bits##_fetch_add(volatile type* to, type value, int) { \
    return __atomic_fetch_add(to, value, __ATOMIC_SEQ_CST);                              \
  }                                                                                      \
  SIMT_EXPORT type __tsan_atomic##bits##_fetch_sub(volatile type* to, type value, int) { \
    return __atomic_fetch_sub(to, value, __ATOMIC_SEQ_CST);                              \
  }
SIMT_ATOMICS(8, uint8_t)
SIMT_ATOMICS(32, uint32_t)
SIMT_ATOMICS(64, uint64_t)
}
