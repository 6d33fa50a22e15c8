// Operations of a warp: shuffles, votes, ldmatrix and mma.sync, with the fragment layouts of the PTX ISA.
#pragma once

#include <cstdint>
#include <cstring>

#include "block.h"
#include "narrow.h"

namespace simt {

inline int lane() {
  return Block::current().thread().lane();
}

// Each lane of the mask gets the value of the lane `source` names, or its own where that lane is not in the mask.
template <class T>
SIMT_QUIET T shuffle(uint32_t mask, T value, int source) {
  struct Offer {
    T value, result;
    int source;
  } mine{value, value, source};
  Block::current().meet(mask, "a shuffle", &mine, [](void* const* offers) {
    for (int l = 0; l < kWarp; ++l) {
      Offer* to = static_cast<Offer*>(offers[l]);
      if (!to) continue;
      const Offer* from = static_cast<Offer*>(offers[to->source & (kWarp - 1)]);
      if (from) to->result = from->value;
    }
  });
  return mine.result;
}

inline SIMT_QUIET uint32_t ballot(uint32_t mask, bool vote) {
  struct Offer {
    bool vote;
    uint32_t result;
  } mine{vote, 0};
  Block::current().meet(mask, "a vote", &mine, [](void* const* offers) {
    uint32_t votes = 0;
    for (int l = 0; l < kWarp; ++l)
      if (offers[l] && static_cast<Offer*>(offers[l])->vote) votes |= uint32_t(1) << l;
    for (int l = 0; l < kWarp; ++l)
      if (offers[l]) static_cast<Offer*>(offers[l])->result = votes;
  });
  return mine.result;
}

// Matrices of 8 rows of 16 bytes: lane 8 i + r names row r of matrix i; word w of row r goes to lane 4 r + w.
template <int kCount>
SIMT_QUIET __attribute__((always_inline)) inline void load_matrices(uint32_t (&fragment)[kCount], const void* row,
                                                                    void* pc) {
  static_assert(kCount == 2 || kCount == 4);
  struct Offer {
    const void* row;
    uint32_t* fragment;
  } mine{row, fragment};
  if (lane() < 8 * kCount) {
    if (reinterpret_cast<uintptr_t>(row) % 16) throw Fault("ldmatrix: expected rows aligned to 16 bytes");
    if (monitor()) monitor()->access(row, 16, Access::load, pc);
  }
  Block::current().meet(~uint32_t(0), "ldmatrix", &mine, [](void* const* offers) SIMT_QUIET {
    for (int i = 0; i < kCount; ++i)
      for (int r = 0; r < 8; ++r) {
        const auto* words = static_cast<const uint32_t*>(static_cast<Offer*>(offers[8 * i + r])->row);
        for (int w = 0; w < 4; ++w) static_cast<Offer*>(offers[4 * r + w])->fragment[i] = words[w];
      }
  });
}

// One number of a fragment's word; for 16 bits `half` says which.
struct Tf32 {
  static constexpr int kInWord = 1;
  SIMT_QUIET static float read(uint32_t word, int) { return float_of(word & 0xffffe000); }
};
struct Half {
  static constexpr int kInWord = 2;
  SIMT_QUIET static float read(uint32_t word, int half) { return __half2float({uint16_t(word >> 16 * half)}); }
};
struct Bfloat16 {
  static constexpr int kInWord = 2;
  SIMT_QUIET static float read(uint32_t word, int half) { return __bfloat162float({uint16_t(word >> 16 * half)}); }
};

// c[16, 8] += a[16, K] b[K, 8], K 8 words of Number. With g = lane / 4 and t = lane % 4, in words along K:
// a0 (g, t), a1 (g + 8, t), a2 (g, t + 4), a3 (g + 8, t + 4); b0 (t, g), b1 (t + 4, g); c (g + 8 (i / 2), 2 t + i % 2).
struct Fragments {
  float* c;
  const uint32_t *a, *b;
};

template <class Number>
SIMT_QUIET __attribute__((optimize("O3"))) void multiply_fragments(void* const* offers) {
  constexpr int kDepth = 8 * Number::kInWord;
  float left[16][kDepth], right[kDepth][8], sums[16][8];
  for (int l = 0; l < kWarp; ++l) {
    const Fragments& lane = *static_cast<Fragments*>(offers[l]);
    const int g = l / 4, t = l % 4;
    for (int half = 0; half < Number::kInWord; ++half) {
      for (int i = 0; i < 4; ++i)
        left[g + 8 * (i % 2)][(t + 4 * (i / 2)) * Number::kInWord + half] = Number::read(lane.a[i], half);
      for (int i = 0; i < 2; ++i) right[(t + 4 * i) * Number::kInWord + half][g] = Number::read(lane.b[i], half);
    }
    for (int i = 0; i < 4; ++i) sums[g + 8 * (i / 2)][2 * t + i % 2] = lane.c[i];
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < kDepth; ++k)
      for (int column = 0; column < 8; ++column) sums[row][column] += left[row][k] * right[k][column];
  for (int l = 0; l < kWarp; ++l)
    for (int i = 0; i < 4; ++i) static_cast<Fragments*>(offers[l])->c[i] = sums[l / 4 + 8 * (i / 2)][l % 4 * 2 + i % 2];
  if (monitor()) monitor()->multiply_adds(16 * 8 * kDepth);
}

template <class Number>
SIMT_QUIET void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Fragments mine{c, a, b};
  Block::current().meet(~uint32_t(0), "mma", &mine, &multiply_fragments<Number>);
}

}  // namespace simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return simt::shuffle(mask, value, (simt::lane() & ~(width - 1)) + (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int source = simt::lane() ^ bits;
  return simt::shuffle(mask, value, (source ^ simt::lane()) & ~(width - 1) ? simt::lane() : source);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int source = simt::lane() + int(delta);
  return simt::shuffle(mask, value, (source ^ simt::lane()) & ~(width - 1) ? simt::lane() : source);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int source = simt::lane() - int(delta);
  return simt::shuffle(mask, value, (source ^ simt::lane()) & ~(width - 1) ? simt::lane() : source);
}
inline unsigned __ballot_sync(unsigned mask, int vote) {
  return simt::ballot(mask, vote != 0);
}
inline int __any_sync(unsigned mask, int vote) {
  return simt::ballot(mask, vote != 0) != 0;
}
inline int __all_sync(unsigned mask, int vote) {
  return simt::ballot(mask, vote == 0) == 0;
}
inline void __syncwarp(unsigned mask = ~0u) {
  simt::Block::current().warp_barrier(mask);
}
