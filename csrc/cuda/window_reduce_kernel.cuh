// window_reduce: the sum or the maximum over a whole frame with a window's cells in place of the frame's.
//
//   out[p, c] = sum (max) over y, x of cell(p, c, y, x), a cell being that of window p where it has one, else that of
//   frame image[p], zero without frames.
//
// What lies outside the box comes from running sums (maxima) of the frame, made once for each image: of the whole rows
// above and below the box, and of each of its rows the cells before and behind it. Nothing is subtracted: no digit is
// lost, and an infinite value inside the box does not matter. A block makes 32 channels of one window; eight threads
// share the cells of a channel, and their eight results are added up in order.
#pragma once

#include "window_cells.cuh"

namespace zfkernels::cuda {

template <bool kMax>
struct Reduction {
  __device__ __forceinline__ static float nothing() { return kMax ? -INFINITY : 0.f; }
  // A NaN goes before all numbers.
  __device__ __forceinline__ static void add(float& to, float value) {
    if (kMax)
      to = value > to || value != value ? value : to;
    else
      to += value;
  }
};

// Running reductions of frames: number i of them is over the first (the last) i cells or rows.
struct Running {
  float *before, *after;  // [N, H, W + 1, C]
  float *above, *below;   // [N, H + 1, C]
};

template <class T>
struct WindowReduce {
  Source<T> source;
  Frames<T> frames;
  Running running;  // null without frames
  T* out;           // [P, C]
  int channels;

  __device__ __forceinline__ int64_t cell(int64_t n, int y, int i) const {
    return ((n * frames.size.rows + y) * (frames.size.columns + 1) + i) * channels;
  }
  __device__ __forceinline__ int64_t row(int64_t n, int i) const { return (n * (frames.size.rows + 1) + i) * channels; }
};

// A thread for each channel of a row of a frame.
template <class T, bool kMax>
__global__ void __launch_bounds__(256) run_cells_kernel(const WindowReduce<T> op) {
  const int64_t item = int64_t(blockIdx.x) * 256 + threadIdx.x, line = quotient(item, op.channels);
  const int c = int(item - line * op.channels), columns = op.frames.size.columns;
  const int64_t n = quotient(line, op.frames.size.rows);
  const int y = int(line - n * op.frames.size.rows);
  if (n >= op.frames.count) return;
  const T* const from = op.frames.data + n * op.frames.stride[0] + y * op.frames.stride[1] + c;
  float before = Reduction<kMax>::nothing(), after = before;
  for (int i = 0; i <= columns; ++i) {
    op.running.before[op.cell(n, y, i) + c] = before;
    op.running.after[op.cell(n, y, i) + c] = after;
    if (i == columns) break;
    Reduction<kMax>::add(before, to_float(from[i * op.frames.stride[2]]));
    Reduction<kMax>::add(after, to_float(from[(columns - 1 - i) * op.frames.stride[2]]));
  }
}

// A thread for each channel of a frame.
template <class T, bool kMax>
__global__ void __launch_bounds__(256) run_rows_kernel(const WindowReduce<T> op) {
  const int64_t item = int64_t(blockIdx.x) * 256 + threadIdx.x, n = quotient(item, op.channels);
  const int c = int(item - n * op.channels), rows = op.frames.size.rows;
  if (n >= op.frames.count) return;
  float above = Reduction<kMax>::nothing(), below = above;
  for (int i = 0; i <= rows; ++i) {
    op.running.above[op.row(n, i) + c] = above;
    op.running.below[op.row(n, i) + c] = below;
    if (i == rows) break;
    Reduction<kMax>::add(above, op.running.before[op.cell(n, i, op.frames.size.columns) + c]);
    Reduction<kMax>::add(below, op.running.before[op.cell(n, rows - 1 - i, op.frames.size.columns) + c]);
  }
}

template <class T, bool kMax>
__global__ void __launch_bounds__(256) window_reduce_kernel(const WindowReduce<T> op, int blocks_of_channels) {
  constexpr int kChannels = 32, kShares = 8;
  SharedMemory shared;
  float* const results = shared.take<float>(kShares * kChannels, "results");

  const int p = int(blockIdx.x / blocks_of_channels), share = threadIdx.x / kChannels;
  const int lane = threadIdx.x % kChannels, c = int(blockIdx.x % blocks_of_channels) * kChannels + lane;
  const Window<T> window = Window<T>::of(op.source, p);
  const Box& box = window.box;
  const Pair& frame = op.frames.size;
  const int bottom = box.top + box.height, right = box.left + box.width;
  require(box.top >= 0 && box.left >= 0 && bottom <= frame.rows && right <= frame.columns);
  const int64_t cells = int64_t(box.height) * box.width;
  const bool exists = c < op.channels;

  float result = Reduction<kMax>::nothing();
  if (exists) {
    for (int64_t i = share; i < cells; i += kShares)
      Reduction<kMax>::add(result, to_float(window.values[i * op.source.stride + c]));
    if (op.frames.data) {
      const int64_t n = op.frames.image[p];
      require(n >= 0 && n < op.frames.count);
      for (int y = box.top + share; y < bottom; y += kShares) {
        Reduction<kMax>::add(result, op.running.before[op.cell(n, y, box.left) + c]);
        Reduction<kMax>::add(result, op.running.after[op.cell(n, y, frame.columns - right) + c]);
      }
      if (share == 0) Reduction<kMax>::add(result, op.running.above[op.row(n, box.top) + c]);
      if (share == kShares - 1) Reduction<kMax>::add(result, op.running.below[op.row(n, frame.rows - bottom) + c]);
    } else if (share == 0 && cells < int64_t(frame.rows) * frame.columns) {
      Reduction<kMax>::add(result, 0.f);
    }
  }
  results[threadIdx.x] = result;
  __syncthreads();
  if (share || !exists) return;
#pragma unroll
  for (int i = 1; i < kShares; ++i) Reduction<kMax>::add(result, results[i * kChannels + lane]);
  op.out[int64_t(p) * op.channels + c] = from_float<T>(result);
}

template <class T, bool kMax>
void reduce_windows(const WindowReduce<T>& op, Stream stream) {
  if (op.frames.data && op.frames.count) {
    const int64_t columns = int64_t(op.frames.count) * op.channels;
    launch("window_reduce", run_cells_kernel<T, kMax>, grid_of(ceil_div<int64_t>(columns * op.frames.size.rows, 256)),
           256, 0, stream, op);
    launch("window_reduce", run_rows_kernel<T, kMax>, grid_of(ceil_div<int64_t>(columns, 256)), 256, 0, stream, op);
  }
  const int blocks = ceil_div(op.channels, 32);
  launch("window_reduce", window_reduce_kernel<T, kMax>, grid_of(int64_t(op.source.at.count) * blocks), 256, 1024,
         stream, op, blocks);
}

}  // namespace zfkernels::cuda
