// Which instruction set a CPU kernel runs in. The library is built for the baseline processor, so that one wheel serves
// every machine of an architecture; the hot loops of a kernel are compiled once per variant (for_each_isa.h), and
// ZFK_BEST picks one at run time.
#pragma once

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ZFK_X86_VARIANTS 1
// The widest variant of a function (a template's instance too) that for_each_isa.h compiled.
#define ZFK_BEST(...)                                                                   \
  (::zfkernels::cpu::best_isa() == ::zfkernels::cpu::Isa::kAvx512 ? avx512::__VA_ARGS__ \
   : ::zfkernels::cpu::best_isa() == ::zfkernels::cpu::Isa::kAvx2 ? avx2::__VA_ARGS__   \
                                                                  : baseline::__VA_ARGS__)
#else
#define ZFK_BEST(...) baseline::__VA_ARGS__
#endif

namespace zfkernels::cpu {

enum class Isa { kBaseline, kAvx2, kAvx512 };

#if defined(ZFK_X86_VARIANTS)
inline constexpr const char* kIsaVariants = "baseline,avx2,avx512";
#else
inline constexpr const char* kIsaVariants = "baseline";  // on aarch64 the baseline has NEON
#endif

inline const char* isa_name(Isa isa) {
  return isa == Isa::kAvx512 ? "avx512" : isa == Isa::kAvx2 ? "avx2" : "baseline";
}

// The widest variant that this processor and its operating system run, or a narrower one that the environment variable
// ZFKERNELS_CPU_VARIANT names (so that every variant can be tested on one machine); the answer is found once.
inline Isa best_isa() {
#if defined(ZFK_X86_VARIANTS)
  static const Isa isa = [] {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    Isa widest = avx2 && avx512 ? Isa::kAvx512 : avx2 ? Isa::kAvx2 : Isa::kBaseline;
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
