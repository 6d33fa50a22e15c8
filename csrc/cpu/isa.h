// Which instruction set a CPU kernel runs in. The library is built for the baseline processor, so that one wheel serves
// every machine of an architecture; a kernel compiles its hot loop once per variant, by function attribute
// (ZFK_TARGET_AVX2, ZFK_TARGET_AVX512), and asks best_isa() at run time.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ZFK_X86_VARIANTS 1
#define ZFK_TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#define ZFK_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#endif

namespace zfkernels::cpu {

enum class Isa { kBaseline, kAvx2, kAvx512 };

#if defined(ZFK_X86_VARIANTS)
inline constexpr const char* kIsaVariants = "baseline,avx2,avx512";
#else
inline constexpr const char* kIsaVariants = "baseline";  // on aarch64 the baseline has NEON
#endif

// The widest variant that this processor and its operating system run; the answer is found once.
inline Isa best_isa() {
#if defined(ZFK_X86_VARIANTS)
  static const Isa isa = [] {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return avx2 && avx512 ? Isa::kAvx512 : avx2 ? Isa::kAvx2 : Isa::kBaseline;
  }();
  return isa;
#else
  return Isa::kBaseline;
#endif
}

inline const char* isa_name(Isa isa) {
  return isa == Isa::kAvx512 ? "avx512" : isa == Isa::kAvx2 ? "avx2" : "baseline";
}

}  // namespace zfkernels::cpu
