// window_avg_pool2d: average pooling of windows, each in its own place of its image's frame.
//
//   out[i, c] = sum over ky, kx of cell(p, c, y * sy - py + ky, x * sx - px + kx) / divisor with (p, y, x) the window
//   and the place of output i. A cell is that of window p where it has one, else that of frame image[p], else zero. The
//   divisor counts the cells of the pooling window inside the frame, or inside the frame and its padding, or is given.
//
// Bound by memory: a thread makes neighbouring channels of one output, 16 bytes at once where they are aligned.
#pragma once

#include "window_cells.cuh"

namespace zfkernels::cuda {

template <class T>
struct WindowAvgPool {
  WindowCells<T> cells;
  T* out;  // [cells, C]
  Sliding pool;
  Divisor divisor;
};

template <class T, int kPack>
__global__ void __launch_bounds__(256) window_avg_pool_kernel(const WindowAvgPool<T> op) {
  const int64_t item = int64_t(blockIdx.x) * 256 + threadIdx.x;
  const int packs = op.cells.channels / kPack;
  const int64_t output = quotient(item, packs);
  if (output >= op.cells.out.at.cells) return;
  const int c = int(item - output * packs) * kPack;
  const Reads<T> reads = op.cells.reads(output, op.pool);
  const float divisor = op.divisor.template of<float>(reads.row, reads.column, op.pool, op.cells.frames.size);

  float sums[kPack] = {};
  for (int ky = 0; ky < op.pool.rows.kernel; ++ky)
    for (int kx = 0; kx < op.pool.columns.kernel; ++kx) {
      const T* const from = op.cells.find(reads, reads.row + ky, reads.column + kx);
      if (!from) continue;
      const Pack<T, kPack> cell = load_pack<T, kPack>(from + c);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sums[i] += to_float(cell.item[i]);
    }
  Pack<T, kPack> mean;
#pragma unroll
  for (int i = 0; i < kPack; ++i) mean.item[i] = from_float<T>(sums[i] / divisor);
  store_pack<T, kPack>(op.out + item * kPack, mean);
}

// `packed`: cells are 16 bytes of neighbouring channels each, aligned.
template <class T>
void window_avg_pool(const WindowAvgPool<T>& op, bool packed, Stream stream) {
  constexpr int kPack = 16 / sizeof(T);
  const int64_t items = op.cells.out.at.cells * (op.cells.channels / (packed ? kPack : 1));
  launch("window_avg_pool2d", packed ? window_avg_pool_kernel<T, kPack> : window_avg_pool_kernel<T, 1>,
         grid_of(ceil_div<int64_t>(items, 256)), 256, 0, stream, op);
}

}  // namespace zfkernels::cuda
