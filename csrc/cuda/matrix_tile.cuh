// A product of 64 rows (pixels) by 64 columns (outputs; 32 in float32) on tensor cores: 4 warps of 32 x 32 (or 16), 64
// bytes of channels at a time, both operands in shared memory as rows of channels.
//
// float32 goes through tf32 three times: with a = a' + a'' and b = b' + b'', each part rounded to tf32, a b is
// a' b' + a' b'' + a'' b' but for 2^-22 of it. The two small products have sums of their own: they hold NaN where a
// factor is infinite, and then the large one is the result.
#pragma once

#include "geometry.cuh"

namespace zfkernels::cuda {

template <class T>
class MatrixTile {
 public:
  static constexpr int kThreads = 128, kRows = 64, kColumns = sizeof(T) == 4 ? 32 : 64;
  static constexpr int kDepth = 64 / sizeof(T);  // channels at a time
  static constexpr int kPack = 16 / sizeof(T);
  static constexpr int kRun = sizeof(T) == 4 ? 2 : 4;  // neighbouring outputs that a thread ends up with

  __device__ __forceinline__ MatrixTile()
      : lane_(threadIdx.x % 32),
        first_row_(int(threadIdx.x) / 64 * 32),
        first_column_(int(threadIdx.x) / 32 % 2 * kColumns / 2) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < kBlocks; ++j)
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          sums_[i][j][k] = 0.f;
          if (kSplit) small_sums_[i][j][k] = 0.f;
        }
  }

  // Where a row's pack of 16 bytes lies in shared memory: 64 bytes to a row, packs exchanged by pairs of rows, so that
  // neither a row's four nor eight rows' same packs share a bank.
  __device__ __forceinline__ static int place(int row, int pack) {
    return row * kDepth + (pack ^ (row >> 1 & 3)) * kPack;
  }

  // The row of the left operand whose address this thread gives to ldmatrix, for each of its two blocks of 16.
  __device__ __forceinline__ int row(int block) const { return first_row_ + block * 16 + lane_ % 16; }

  // rows[0 and 1]: the numbers of those rows of `left`; right: [kColumns] rows.
  __device__ __forceinline__ void multiply(const T* left, const int (&rows)[2], const T* right) {
    const int column = first_column_ + lane_ / 16 * 8 + lane_ % 8;
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      uint32_t a[2][4], b[kBlocks][2];
#pragma unroll
      for (int i = 0; i < 2; ++i) load_matrices(a[i], left + place(rows[i], step * 2 + lane_ / 16));
#pragma unroll
      for (int j = 0; j < kBlocks; j += 2) {
        uint32_t both[4];
        load_matrices(both, right + place(column + j * 8, step * 2 + lane_ / 8 % 2));
        b[j][0] = both[0], b[j][1] = both[1], b[j + 1][0] = both[2], b[j + 1][1] = both[3];
      }
      if constexpr (kSplit)
        multiply_split(a, b);
      else
        multiply_all(sums_, a, b);
    }
  }

  // store(row, column, numbers[kRun]) for all that this thread has; all threads of a warp have to come.
  template <class Store>
  __device__ __forceinline__ void for_each_run(const Store& store) {
    const int g = lane_ / 4, t = lane_ % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < kBlocks; j += kRun / 2) {
          const int row = first_row_ + i * 16 + half * 8 + g;
          if constexpr (kRun == 2) {
            const float run[2] = {sum(i, j, 2 * half), sum(i, j, 2 * half + 1)};
            store(row, first_column_ + j * 8 + 2 * t, run);
          } else {
            // Neighbours exchange pairs: even lanes get four outputs of block j, odd ones of block j + 1, so that four
            // lanes write 32 bytes.
            const bool odd = t % 2;
            const float keep[2] = {odd ? sum(i, j + 1, 2 * half) : sum(i, j, 2 * half),
                                   odd ? sum(i, j + 1, 2 * half + 1) : sum(i, j, 2 * half + 1)};
            const float give[2] = {odd ? sum(i, j, 2 * half) : sum(i, j + 1, 2 * half),
                                   odd ? sum(i, j, 2 * half + 1) : sum(i, j + 1, 2 * half + 1)};
            const float got[2] = {__shfl_xor_sync(~0u, give[0], 1), __shfl_xor_sync(~0u, give[1], 1)};
            const float run[4] = {odd ? got[0] : keep[0], odd ? got[1] : keep[1], odd ? keep[0] : got[0],
                                  odd ? keep[1] : got[1]};
            store(row, first_column_ + (j + odd) * 8 + t / 2 * 4, run);
          }
        }
  }

 private:
  static constexpr bool kSplit = sizeof(T) == 4;
  static constexpr int kBlocks = kColumns / 16;  // of 8 columns, of a warp

  __device__ __forceinline__ static void multiply_all(float (&sums)[2][kBlocks][4], const uint32_t (&a)[2][4],
                                                      const uint32_t (&b)[kBlocks][2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < kBlocks; ++j) cuda::multiply<T>(sums[i][j], a[i], b[j]);
  }

  template <int kCount, int kWords>
  __device__ __forceinline__ static void split(const uint32_t (&from)[kCount][kWords],
                                               uint32_t (&large)[kCount][kWords], uint32_t (&small)[kCount][kWords]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
#pragma unroll
      for (int k = 0; k < kWords; ++k) {
        const float value = __uint_as_float(from[i][k]);
        large[i][k] = to_tf32(value);
        small[i][k] = to_tf32(value - __uint_as_float(large[i][k]));
      }
  }

  __device__ __forceinline__ void multiply_split(const uint32_t (&a)[2][4], const uint32_t (&b)[kBlocks][2]) {
    uint32_t large_a[2][4], small_a[2][4], large_b[kBlocks][2], small_b[kBlocks][2];
    split(a, large_a, small_a);
    split(b, large_b, small_b);
    multiply_all(sums_, large_a, large_b);
    multiply_all(small_sums_, large_a, small_b);
    multiply_all(small_sums_, small_a, large_b);
  }

  __device__ __forceinline__ float sum(int i, int j, int k) const {
    if constexpr (kSplit) {
      const float large = sums_[i][j][k], both = large + small_sums_[i][j][k];
      return fabsf(large) < INFINITY ? both : large;
    } else {
      return sums_[i][j][k];
    }
  }

  const int lane_, first_row_, first_column_;
  float sums_[2][kBlocks][4], small_sums_[kSplit ? 2 : 1][kBlocks][4];
};

// The filters of one block of outputs and one tap, 64 bytes of channels of them, as the right operand of a product.
template <class T>
__device__ __forceinline__ void stage_filters(const T* packed, int padded_channels, T* to) {
  using Tile = MatrixTile<T>;
  const int first = threadIdx.x / 4, pack = threadIdx.x % 4;
#pragma unroll
  for (int row = 0; row < Tile::kColumns; row += Tile::kThreads / 4)
    copy_async<16>(to + Tile::place(first + row, pack), packed + (first + row) * padded_channels + pack * Tile::kPack,
                   true);
}

// The taps of a filter row by row, without a division for each.
struct TapCounter {
  int row = 0, column = 0;

  __device__ __forceinline__ void next(int columns) {
    if (++column == columns) {
      column = 0;
      ++row;
    }
  }
};

// Neighbouring outputs of a run that exist, at once where they are aligned.
template <class T, int kRun>
__device__ __forceinline__ void store_run(T* to, int64_t stride, bool aligned, int count, const float (&run)[kRun]) {
  Pack<T, kRun> pack;
#pragma unroll
  for (int i = 0; i < kRun; ++i) pack.item[i] = from_float<T>(run[i]);
  if (aligned && count >= kRun) return store_pack<T, kRun>(to, pack);
#pragma unroll
  for (int i = 0; i < kRun; ++i)
    if (i < count) to[i * stride] = pack.item[i];
}

}  // namespace zfkernels::cuda
