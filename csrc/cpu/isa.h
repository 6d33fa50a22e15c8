// Which instruction set a CPU kernel runs in. The library is built for the baseline processor, so that one wheel serves
// every machine of an architecture; the hot loops of a kernel are compiled once per variant (for_each_isa.h), and
// ZFK_BEST picks one at run time. Products of bfloat16 numbers have variants of their own (bfloat16_tile.h).
#pragma once

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ZFK_X86_VARIANTS 1
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
// The widest variant of a function, or of a table of functions, that for_each_isa.h compiled.
#define ZFK_BEST(...)                                                                   \
  (::zfkernels::cpu::best_isa() >= ::zfkernels::cpu::Isa::kAvx512 ? avx512::__VA_ARGS__ \
   : ::zfkernels::cpu::best_isa() == ::zfkernels::cpu::Isa::kAvx2 ? avx2::__VA_ARGS__   \
                                                                  : baseline::__VA_ARGS__)
#else
#define ZFK_BEST(...) baseline::__VA_ARGS__
#endif

namespace zfkernels::cpu {

// Each has the instructions of those before it.
enum class Isa { kBaseline, kAvx2, kAvx512, kAvx512Bfloat16, kAmxBfloat16 };

#if defined(ZFK_X86_VARIANTS)
inline constexpr const char* kIsaVariants = "baseline,avx2,avx512,avx512_bf16,amx_bf16";
#else
inline constexpr const char* kIsaVariants = "baseline";  // on aarch64 the baseline has NEON
#endif

inline const char* isa_name(Isa isa) {
  constexpr const char* kNames[] = {"baseline", "avx2", "avx512", "avx512_bf16", "amx_bf16"};
  return kNames[int(isa)];
}

#if defined(ZFK_X86_VARIANTS)
// Whether the processor multiplies tiles of bfloat16 numbers, and the system, asked for it, keeps tiles for a process.
inline bool has_amx_bfloat16() {
#if defined(__linux__)
  constexpr unsigned kAmxBfloat16 = 1u << 22, kAmxTile = 1u << 24;  // of leaf 7's edx
  constexpr long kAskForComponent = 0x1023, kTileData = 18;         // of arch_prctl
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kAmxBfloat16) || !(d & kAmxTile)) return false;
  return syscall(SYS_arch_prctl, kAskForComponent, kTileData) == 0;
#else
  return false;
#endif
}

inline bool has_avx512_bfloat16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));
}
#endif

// The widest variant that this processor and its operating system run, or a narrower one that the environment variable
// ZFKERNELS_CPU_VARIANT names (so that every variant can be tested on one machine); the answer is found once.
inline Isa best_isa() {
#if defined(ZFK_X86_VARIANTS)
  static const Isa isa = [] {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool bfloat16 = avx512 && has_avx512_bfloat16();
    Isa widest = bfloat16 && has_amx_bfloat16() ? Isa::kAmxBfloat16
                 : bfloat16                     ? Isa::kAvx512Bfloat16
                 : avx512                       ? Isa::kAvx512
                 : avx2                         ? Isa::kAvx2
                                                : Isa::kBaseline;
    if (const char* wanted = std::getenv("ZFKERNELS_CPU_VARIANT"))
      while (widest != Isa::kBaseline && std::strcmp(wanted, isa_name(widest)) != 0) widest = Isa(int(widest) - 1);
    return widest;
  }();
  return isa;
#else
  return Isa::kBaseline;
#endif
}

}  // namespace zfkernels::cpu
