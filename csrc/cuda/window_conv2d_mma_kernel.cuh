// window_conv2d for many outputs: an implicit product on tensor cores.
//
//   out[i, o] = bias[o] + sum over c, ky, kx of w[o, c, ky, kx] * cell(p, c, y * s - pad + ky * d, x * s - pad + kx *
//   d)
//
// with (p, y, x) the window and the place of output i; a cell is that of window p where it has one, else that of frame
// image[p], else zero. A block makes 64 neighbouring outputs, of one or several windows, by 64 channels. For each tap
// and 64 bytes of channels, 64 cells and the filters come to shared memory by cp.async from wherever they lie, while
// the ones before are multiplied; the weights are read once for all windows of a block.
#pragma once

#include "filters.cuh"
#include "matrix_tile.cuh"
#include "window_cells.cuh"

namespace zfkernels::cuda {

template <class T>
struct WindowConv {
  WindowCells<T> cells;
  const T* bias;  // [C_out], null: none
  T* out;         // [cells, C_out]
  Sliding conv;
  int groups, channels, outputs;  // of a group
  bool relu;
  int cell_bytes;  // that can be copied at a time: 16, 4 or 0

  __host__ __device__ int64_t pixels() const { return cells.out.at.cells; }
  // The sum with the bias, rectified if asked.
  __device__ __forceinline__ float finish(float sum, int output) const {
    const float value = bias ? sum + to_float(bias[output]) : sum;
    return relu ? rectified(value) : value;
  }
};

// kCount numbers at a time of the 64 bytes of channels of a cell, 0: one by one without cp.async.
template <class T, int kCount>
__device__ __forceinline__ void stage_cell(const T* from, int channels, const T* somewhere, int part, T* to) {
  constexpr int kStep = kCount ? kCount : 1, kPart = MatrixTile<T>::kDepth / 4;
#pragma unroll
  for (int i = 0; i < kPart; i += kStep) {
    const int channel = part * kPart + i;
    const bool valid = from && channel < channels;
    const T* const at = valid ? from + channel : somewhere;
    if constexpr (kCount)
      copy_async<kCount * sizeof(T)>(to + i, at, valid);
    else
      to[i] = valid ? *at : from_float<T>(0.f);
  }
}

// kWide: cells can be copied 16 bytes at a time.
template <class T, bool kWide>
__global__ void __launch_bounds__(128, 4)
    window_conv_mma_kernel(const WindowConv<T> op, const FilterShape shape, const T* __restrict__ filters) {
  using Tile = MatrixTile<T>;
  constexpr int kRowsOfThread = 2;  // a thread copies a quarter of the cells of two rows
  SharedMemory shared;
  T* const left = shared.take<T>(2 * Tile::kRows * Tile::kDepth, "cells");
  T* const right = shared.take<T>(2 * Tile::kColumns * Tile::kDepth, "filters");

  const int thread = threadIdx.x, part = thread % 4;
  const int group = blockIdx.y / shape.blocks(), first_output = int(blockIdx.y) % shape.blocks() * Tile::kColumns;
  const int64_t first_pixel = int64_t(blockIdx.x) * Tile::kRows;

  Reads<T> reads[kRowsOfThread];
#pragma unroll
  for (int i = 0; i < kRowsOfThread; ++i) {
    const int64_t pixel = first_pixel + thread / 4 + i * 32;
    reads[i] = op.cells.reads(pixel < op.pixels() ? pixel : op.pixels() - 1, op.conv);
  }

  const T* const block = filters + blockIdx.y * shape.block_size();
  const int steps = shape.taps * (shape.padded_channels / Tile::kDepth);
  TapCounter tap;
  int first = 0;  // channel
  // The tap and the channels that come next, to one of two places.
  const auto stage = [&](int place) {
    const int64_t first_row = int64_t(tap.row * op.conv.columns.kernel + tap.column) * Tile::kColumns;
    stage_filters(block + first_row * shape.padded_channels + first, shape.padded_channels,
                  right + place * Tile::kColumns * Tile::kDepth);
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
      const T* const cell = op.cells.find(reads[i], reads[i].row + tap.row * op.conv.rows.dilation,
                                          reads[i].column + tap.column * op.conv.columns.dilation);
      const T* const from = cell ? cell + group * op.channels + first : nullptr;
      T* const to = left + place * Tile::kRows * Tile::kDepth + Tile::place(thread / 4 + i * 32, part);
      if (kWide)
        stage_cell<T, Tile::kPack>(from, op.channels - first, op.cells.source.values, part, to);
      else if (op.cell_bytes == 4)
        stage_cell<T, 4 / sizeof(T)>(from, op.channels - first, op.cells.source.values, part, to);
      else
        stage_cell<T, 0>(from, op.channels - first, op.cells.source.values, part, to);
    }
    commit_copies();
    first += Tile::kDepth;
    if (first == shape.padded_channels) {
      first = 0;
      tap.next(op.conv.columns.kernel);
    }
  };

  Tile product;
  stage(0);
  for (int step = 0; step < steps; ++step) {
    wait_copies<0>();
    __syncthreads();
    if (step + 1 < steps) stage(step % 2 ^ 1);
    const int both[2] = {product.row(0), product.row(1)};
    product.multiply(left + step % 2 * Tile::kRows * Tile::kDepth, both,
                     right + step % 2 * Tile::kColumns * Tile::kDepth);
  }

  const int all_outputs = op.groups * op.outputs;
  const bool aligned = op.outputs % Tile::kRun == 0;
  product.for_each_run([&](int row, int column, const float (&sums)[Tile::kRun]) {
    const int output = first_output + column;
    const int64_t pixel = first_pixel + row;
    if (output >= op.outputs || pixel >= op.pixels()) return;
    const int channel = group * op.outputs + output, count = op.outputs - output;
    float run[Tile::kRun];
#pragma unroll
    for (int i = 0; i < Tile::kRun; ++i) run[i] = i < count ? op.finish(sums[i], channel + i) : 0.f;
    store_run(op.out + pixel * all_outputs + channel, 1, aligned, count, run);
  });
}

// `filters`: packed in the order tap_output_channel.
template <class T>
void window_conv_mma(const WindowConv<T>& op, const FilterShape& shape, const T* filters, Stream stream) {
  using Tile = MatrixTile<T>;
  const int shared_bytes = 2 * (Tile::kRows + Tile::kColumns) * Tile::kDepth * int(sizeof(T));
  launch("window_conv2d", op.cell_bytes == 16 ? window_conv_mma_kernel<T, true> : window_conv_mma_kernel<T, false>,
         grid_of(ceil_div<int64_t>(op.pixels(), Tile::kRows), int64_t(op.groups) * shape.blocks()), Tile::kThreads,
         shared_bytes, stream, op, shape, filters);
}

}  // namespace zfkernels::cuda
