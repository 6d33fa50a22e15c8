// window_max_pool2d: max-pooling of windows, each in its own place of its image's frame.
//
//   out[p, c, y, x] = max over ky, kx of cell(p, c, oy * sy - py + ky * dy, ox * sx - px + kx * dx) with (oy, ox) =
//   out_origins[p] + (y, x). A cell is that of window p where it has one, else that of frame image[p], else -inf.
//
// Bound by memory: a thread makes neighbouring channels of one output, 16 bytes at once where they are aligned.
#pragma once

#include "window_cells.cuh"

namespace zfkernels::cuda {

template <class T>
struct WindowMaxPool {
  WindowCells<T> cells;
  T* out;  // [P, h', w', C]
  Pair out_size;
  Sliding pool;
};

template <class T, int kPack>
__global__ void __launch_bounds__(256) window_max_pool_kernel(const WindowMaxPool<T> op, int blocks_per_window) {
  const int p = blockIdx.x / blocks_per_window;
  const int item = blockIdx.x % blocks_per_window * 256 + threadIdx.x;
  const int packs = op.cells.channels / kPack;
  if (item >= op.out_size.area() * packs) return;
  const int c = item % packs * kPack, pixel = item / packs;
  const Place<T> place = op.cells.place(p);
  const int row = place.read_row(pixel / op.out_size.columns, op.pool.rows);
  const int column = place.read_column(pixel % op.out_size.columns, op.pool.columns);

  Pack<T, kPack> best;
#pragma unroll
  for (int i = 0; i < kPack; ++i) best.item[i] = from_float<T>(-INFINITY);
  for (int ky = 0; ky < op.pool.rows.kernel; ++ky)
    for (int kx = 0; kx < op.pool.columns.kernel; ++kx) {
      const T* const from =
          op.cells.find(place, row + ky * op.pool.rows.dilation, column + kx * op.pool.columns.dilation);
      if (!from) continue;
      const Pack<T, kPack> cell = load_pack<T, kPack>(from + c);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        const float value = to_float(cell.item[i]);
        if (value > to_float(best.item[i]) || value != value) best.item[i] = cell.item[i];
      }
    }
  store_pack<T, kPack>(op.out + (int64_t(p) * op.out_size.area() + pixel) * op.cells.channels + c, best);
}

// `packed`: cells are 16 bytes of neighbouring channels each, aligned.
template <class T>
void window_max_pool(const WindowMaxPool<T>& op, bool packed, Stream stream) {
  constexpr int kPack = 16 / sizeof(T);
  const int64_t items = int64_t(op.out_size.area()) * op.cells.channels / (packed ? kPack : 1);
  const int64_t per_window = ceil_div<int64_t>(items, 256);
  launch("window_max_pool2d", packed ? window_max_pool_kernel<T, kPack> : window_max_pool_kernel<T, 1>,
         grid_of(per_window * op.cells.windows), 256, 0, stream, op, int(per_window));
}

}  // namespace zfkernels::cuda
