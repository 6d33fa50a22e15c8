// Compiles the file ZFK_LOOPS once per instruction set, each time inside its own namespace:
//
//     #define ZFK_LOOPS "<op>_loops.h"
//     #include "for_each_isa.h"
//     ... ZFK_BEST(kTable<float>).function(arguments);
//
// An op with several loops has one table of them, declared by the op and filled by the file for each instruction set.
// That file holds hot loops only: functions in `namespace zfkernels::cpu::ZFK_ISA`, on the vectors of vectors.h. It
// includes vectors.h and other files of loops; what it needs from elsewhere is included before this header, once in a
// translation unit.
//
// Files of loops may include one another in any order. Their include guards are toggled: ZFK_TOGGLE changes from one
// instruction set to the next, and a file is taken in once until its guard has followed:
//
//     #if defined(ZFK_<FILE>) == defined(ZFK_TOGGLE)
//     #if defined(ZFK_<FILE>)
//     #undef ZFK_<FILE>
//     #else
//     #define ZFK_<FILE>
//     #endif
//     ...
//     #endif
#if defined(ZFK_EACH_ISA)
#error "for_each_isa.h is included once in a translation unit"
#endif
#define ZFK_EACH_ISA

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "bfloat16.h"
#include "isa.h"
#if defined(ZFK_X86_VARIANTS)
#include <immintrin.h>
#endif

#define ZFK_ISA baseline
#define ZFK_VECTOR_BYTES 16
#include ZFK_LOOPS
#undef ZFK_ISA
#undef ZFK_VECTOR_BYTES

#if defined(ZFK_X86_VARIANTS)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,popcnt")
#endif
#define ZFK_TOGGLE
#define ZFK_ISA avx2
#define ZFK_VECTOR_BYTES 32
#include ZFK_LOOPS
#undef ZFK_ISA
#undef ZFK_VECTOR_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,popcnt"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,popcnt")
#endif
#undef ZFK_TOGGLE
#define ZFK_ISA avx512
#define ZFK_VECTOR_BYTES 64
#include ZFK_LOOPS
#undef ZFK_ISA
#undef ZFK_VECTOR_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
