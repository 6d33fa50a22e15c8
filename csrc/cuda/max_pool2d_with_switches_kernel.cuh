// max_pool2d_with_switches: each maximum and, in one byte, its place in its pooling window.
//
//   values[n, c, y, x] = max over ky, kx of input[n, c, y * sy - py + ky * dy, x * sx - px + kx * dx], and
//   switches[n, c, y, x] = ky * kw + kx of it: the first maximum in row-major order; of several NaNs the last.
//
// Bound by memory: a thread makes neighbouring channels (channels last, 16 bytes at once where they are aligned) or one
// number of a row of outputs (contiguous); what neighbours read twice comes from the cache.
#pragma once

#include "maxima.cuh"

namespace zfkernels::cuda {

template <class T>
struct MaxPool {
  View<const T> input;     // [N, C, H, W]
  View<T> values;          // [N, C, Hp, Wp]
  View<uint8_t> switches;  // [N, C, Hp, Wp]
  int images, channels;
  Pair size, pooled;
  Sliding pool;
};

// kPack channels of one output; kPack is 1 for contiguous maps, whose rows of outputs `lines` are [n, c, y].
template <class T, int kPack, bool kChannelsLast>
__global__ void __launch_bounds__(256) max_pool_kernel(const MaxPool<T> op, int blocks_per_line) {
  const int line = blockIdx.x / blocks_per_line;
  const int item = blockIdx.x % blocks_per_line * 256 + threadIdx.x;
  const int packs = op.channels / kPack;
  const int y = line % op.pooled.rows;
  int n = line / op.pooled.rows, c, x;
  if (kChannelsLast) {
    if (item >= op.pooled.columns * packs) return;
    c = item % packs * kPack;
    x = item / packs;
  } else {
    if (item >= op.pooled.columns) return;
    c = n % op.channels;
    n /= op.channels;
    x = item;
  }
  const int row = op.pool.rows.start(y), column = op.pool.columns.start(x);
  const int top = op.pool.rows.first_inside(row), bottom = op.pool.rows.end_inside(row, op.size.rows);
  const int left = op.pool.columns.first_inside(column), right = op.pool.columns.end_inside(column, op.size.columns);
  const T* const from = op.input.at(n, c, 0, 0);

  Maxima<T, kPack, true> maxima(top * op.pool.columns.kernel + left);
  for (int ky = top; ky < bottom; ++ky)
    for (int kx = left; kx < right; ++kx) {
      const int64_t offset = (row + ky * op.pool.rows.dilation) * op.input.stride[2] +
                             (column + kx * op.pool.columns.dilation) * op.input.stride[3];
      maxima.meet(load_pack<T, kPack>(from + offset), ky * op.pool.columns.kernel + kx);
    }
  store_pack<T, kPack>(op.values.at(n, c, y, x), maxima.best);
  store_pack<uint8_t, kPack>(op.switches.at(n, c, y, x), maxima.code);
}

// `packed`: the cells of input and results are 16 bytes of neighbouring channels each, aligned.
template <class T>
void max_pool(const MaxPool<T>& op, bool channels_last, bool packed, Stream stream) {
  constexpr int kPack = 16 / sizeof(T);
  const int64_t lines = int64_t(op.images) * op.pooled.rows * (channels_last ? 1 : op.channels);
  const int64_t items = int64_t(op.pooled.columns) * (channels_last ? op.channels / (packed ? kPack : 1) : 1);
  const int64_t per_line = ceil_div<int64_t>(items, 256);
  const auto kernel = !channels_last ? max_pool_kernel<T, 1, false>
                      : packed       ? max_pool_kernel<T, kPack, true>
                                     : max_pool_kernel<T, 1, true>;
  launch("max_pool2d_with_switches", kernel, grid_of(lines * per_line), 256, 0, stream, op, int(per_line));
}

}  // namespace zfkernels::cuda
