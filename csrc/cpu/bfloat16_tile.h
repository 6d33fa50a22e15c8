// Products of bfloat16 numbers, summed in float: blocks of outputs by panels of 32 output channels.
//
//   out[i, o] = bias[o] + sum over k of rows[i][k] * panel[k / 2][o][k % 2], then the ReLU if asked
//
// The rows are what the outputs read, copied together; k runs over taps and channels, in that order. Weights lie in
// pairs of k, as the instructions of both variants want them: VDPBF16PS multiplies 32 pairs of numbers, TDPBF16PS (AMX)
// a tile of 16 rows x 32 numbers by one of 32 numbers x 16 channels, in 16 cycles.
#pragma once

#include <cstdint>

#include "bfloat16.h"
#include "isa.h"

namespace zfkernels::cpu {

inline constexpr int64_t kPanelWidth = 32;  // output channels
inline constexpr int64_t kStep = 32;        // of k: both are padded to a multiple of it with zeros
inline constexpr int64_t kBlockRows = 32;   // outputs; rows are there up to a multiple of it, whatever they hold

struct BFloat16Block {
  const BFloat16* rows;   // [count, pitch]
  int64_t pitch;          // from a row to the next, in numbers
  int64_t count;          // rows that are written
  int64_t steps;          // kStep each
  const BFloat16* panel;  // [steps * kStep / 2, kPanelWidth, 2]
  const float* bias;      // [kPanelWidth]
  BFloat16* out;          // [count, out_stride]
  int64_t out_stride;
  int64_t width;  // channels that are written
  bool relu;
};

}  // namespace zfkernels::cpu

#if defined(ZFK_X86_VARIANTS)
#include <immintrin.h>

#include <cstring>

// Compiled for AVX-512 with bfloat16 and for AMX; in a namespace of its own, as the loops of for_each_isa.h are.
namespace zfkernels::cpu::bfloat16_isa {

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16")
#endif

// Writes sums [2 vectors] of one output.
inline __attribute__((always_inline)) void write_row(const BFloat16Block& block, int64_t row, __m512 first,
                                                     __m512 second) {
  first = _mm512_add_ps(first, _mm512_loadu_ps(block.bias));
  second = _mm512_add_ps(second, _mm512_loadu_ps(block.bias + 16));
  if (block.relu) {  // a NaN stays
    first = first < 0 ? __m512{} : first;
    second = second < 0 ? __m512{} : second;
  }
  const __m512i rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
  const __mmask32 kept = block.width >= kPanelWidth ? ~__mmask32(0) : (__mmask32(1) << block.width) - 1;
  _mm512_mask_storeu_epi16(block.out + row * block.out_stride, kept, rounded);
}

template <int kRows>
void multiply_pairs(const BFloat16Block& block, int64_t row) {
  __m512 sum[kRows][2];
#pragma GCC unroll 12
  for (int j = 0; j < kRows; ++j) sum[j][0] = sum[j][1] = _mm512_setzero_ps();
  const BFloat16* rows = block.rows + row * block.pitch;
  const BFloat16* weights = block.panel;
  for (int64_t k = 0; k < block.steps * kStep; k += 2, weights += 2 * kPanelWidth) {
    const __m512bh first = reinterpret_cast<__m512bh>(_mm512_loadu_si512(weights));
    const __m512bh second = reinterpret_cast<__m512bh>(_mm512_loadu_si512(weights + kPanelWidth));
#pragma GCC unroll 12
    for (int j = 0; j < kRows; ++j) {
      int32_t pair;
      std::memcpy(&pair, rows + j * block.pitch + k, sizeof pair);
      const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
      sum[j][0] = _mm512_dpbf16_ps(sum[j][0], x, first);
      sum[j][1] = _mm512_dpbf16_ps(sum[j][1], x, second);
    }
  }
#pragma GCC unroll 12
  for (int j = 0; j < kRows; ++j)
    if (row + j < block.count) write_row(block, row + j, sum[j][0], sum[j][1]);
}

inline void multiply_avx512(const BFloat16Block& block) {
  int64_t row = 0;
  for (; row + 12 <= block.count; row += 12) multiply_pairs<12>(block, row);
  for (; row < block.count; row += 4) multiply_pairs<4>(block, row);
}

// Shapes of the tiles, all alike: 16 rows of 64 bytes.
inline void configure_tiles() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shapes;
  __asm__ volatile("" ::"r"(&shapes) : "memory");  // the compiler believes that 8 bytes of it are read
  _tile_loadconfig(&shapes);
}
inline void release_tiles() {
  _tile_release();
}

// Behind configure_tiles().
inline void multiply_amx(const BFloat16Block& block) {
  alignas(64) float sums[kBlockRows][kPanelWidth];
  const int64_t row_bytes = block.pitch * sizeof(BFloat16), panel_bytes = kPanelWidth * 2 * sizeof(BFloat16);
  for (int64_t row = 0; row < block.count; row += kBlockRows) {
    const BFloat16* rows = block.rows + row * block.pitch;
    const BFloat16* weights = block.panel;
    __asm__ volatile("" ::"r"(rows) : "memory");  // nor does it know that tiles are loaded from memory
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t step = 0; step < block.steps; ++step, rows += kStep, weights += kStep * kPanelWidth) {
      _tile_loadd(4, rows, row_bytes);
      _tile_loadd(6, weights, panel_bytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(5, rows + 16 * block.pitch, row_bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_loadd(7, weights + 32, panel_bytes);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, &sums[0][0], sizeof sums[0]);
    _tile_stored(1, &sums[0][16], sizeof sums[0]);
    _tile_stored(2, &sums[16][0], sizeof sums[0]);
    _tile_stored(3, &sums[16][16], sizeof sums[0]);
    __asm__ volatile("" ::: "memory");
    for (int64_t j = 0; j < kBlockRows && row + j < block.count; ++j)
      write_row(block, row + j, _mm512_loadu_ps(sums[j]), _mm512_loadu_ps(&sums[j][16]));
  }
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

}  // namespace zfkernels::cpu::bfloat16_isa
#endif
