// window_max_pool2d: max-pooling of windows, each in its own place of its image's frame.
//
//   out[i, c] = max over ky, kx of cell(p, c, y * sy - py + ky * dy, x * sx - px + kx * dx) with (p, y, x) the window
//   and the place of output i. A cell is that of window p where it has one, else that of frame image[p], else -inf.
//
// Bound by memory: a thread makes neighbouring channels of one output, 16 bytes at once where they are aligned.
#pragma once

#include "maxima.cuh"
#include "window_cells.cuh"

namespace zfkernels::cuda {

template <class T>
struct WindowMaxPool {
  WindowCells<T> cells;
  T* out;  // [cells, C]
  Sliding pool;
};

template <class T, int kPack>
__global__ void __launch_bounds__(256) window_max_pool_kernel(const WindowMaxPool<T> op) {
  const int64_t item = int64_t(blockIdx.x) * 256 + threadIdx.x;
  const int packs = op.cells.channels / kPack;
  const int64_t output = quotient(item, packs);
  if (output >= op.cells.out.at.cells) return;
  const int c = int(item - output * packs) * kPack;
  const Reads<T> reads = op.cells.reads(output, op.pool);

  Maxima<T, kPack, false> maxima;
  for (int ky = 0; ky < op.pool.rows.kernel; ++ky)
    for (int kx = 0; kx < op.pool.columns.kernel; ++kx) {
      const int y = reads.row + ky * op.pool.rows.dilation, x = reads.column + kx * op.pool.columns.dilation;
      if (!op.cells.frames.has(y, x)) continue;
      Pack<T, kPack> cell{};
      if (const T* const from = op.cells.find(reads, y, x)) cell = load_pack<T, kPack>(from + c);
      maxima.meet(cell);
    }
  store_pack<T, kPack>(op.out + item * kPack, maxima.best);
}

// `packed`: cells are 16 bytes of neighbouring channels each, aligned.
template <class T>
void window_max_pool(const WindowMaxPool<T>& op, bool packed, Stream stream) {
  constexpr int kPack = 16 / sizeof(T);
  const int64_t items = op.cells.out.at.cells * (op.cells.channels / (packed ? kPack : 1));
  launch("window_max_pool2d", packed ? window_max_pool_kernel<T, kPack> : window_max_pool_kernel<T, 1>,
         grid_of(ceil_div<int64_t>(items, 256)), 256, 0, stream, op);
}

}  // namespace zfkernels::cuda
