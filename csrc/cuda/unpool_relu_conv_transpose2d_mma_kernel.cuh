// unpool_relu_conv_transpose2d for many outputs: tensor cores.
//
// A block makes 64 pixels of one phase of the stride, all of which are reached by the same taps, by 64 outputs: a tile
// of one window or image, or whole small windows. For 64 bytes of channels at a time the pooled tile and its switches
// come to shared memory by cp.async and are unpooled and rectified there, once; each tap then is one product whose left
// rows are the unpooled cells themselves, shifted. The filters of the next tap and the next pooled tile arrive
// meanwhile.
//
// What overlapping pooling windows put on one cell is summed in float32, but a product's operands have 16 bits: in
// float16 and bfloat16 each cell is rounded once more than in the reference. Over 256 channels of a 3 x 3 pooling of
// stride 2 and 3 x 3 filters, normal numbers, the root mean square of the error against float64 is 2.7e-4 (float16) and
// 2.2e-3 (bfloat16) of that of the result; rounding the exact result alone costs 2.1e-4 and 1.7e-3, which is what the
// kernel costs where the windows do not overlap. float32 keeps its bits.
#pragma once

#include "filters.cuh"
#include "matrix_tile.cuh"
#include "unpool_relu_conv_transpose2d_stage.cuh"

namespace zfkernels::cuda {

// How the 64 rows of a product are taken from the pixels of one phase.
template <class T>
struct PhaseTiling {
  using Unpooled = PooledTile<T, MatrixTile<T>::kDepth>;

  int together;  // tiles in a block, each of one window or image
  Pair tile;     // pixels of each
  typename Unpooled::Size size;
  // Unpooled cells from one line to the next, and from one window to the next: where a line of pixels is no multiple of
  // eight, as many more than a multiple of eight as there are pixels. Then eight neighbouring rows of a product are in
  // different banks, whether they come from one line or two.
  int pitch, cells;
  Pair step, reach;  // of the taps, in any phase
};

template <class T>
__global__ void __launch_bounds__(128, 4)
    conv_transpose_mma_kernel(const Stage<T> op, const PhaseTiling<T> tiling, const FilterShape shape,
                              const T* __restrict__ filters) {
  using Tile = MatrixTile<T>;
  using Unpooled = typename PhaseTiling<T>::Unpooled;
  SharedMemory shared;
  Corner<T>* const corners = shared.take<Corner<T>>(tiling.together, "corners");
  T* const pooled = shared.take<T>(tiling.together * tiling.size.values(), "pooled");
  uint8_t* const switches =
      op.switches ? shared.take<uint8_t>(tiling.together * tiling.size.switches(), "switches") : nullptr;
  T* const unpooled = shared.take<T>(tiling.together * tiling.cells * Tile::kDepth, "unpooled");
  T* const right = shared.take<T>(2 * Tile::kColumns * Tile::kDepth, "filters");

  const int thread = threadIdx.x;
  const int phases = op.conv.rows.stride * op.conv.columns.stride;
  const int phase = blockIdx.x % phases;
  const int group = blockIdx.y / shape.blocks(), first_output = int(blockIdx.y) % shape.blocks() * Tile::kColumns;
  const int phase_row = phase / op.conv.columns.stride, phase_column = phase % op.conv.columns.stride;
  const PhaseTaps rows = phase_taps(op.conv.rows, phase_row), columns = phase_taps(op.conv.columns, phase_column);

  const Pair most{tiling.tile.rows * op.conv.rows.stride, tiling.tile.columns * op.conv.columns.stride};
  // Between tiles, in shared memory: the sums of the product hold most registers.
  if (thread < tiling.together) {
    corners[thread].walk = op.walk(int64_t(blockIdx.x / phases) * tiling.together + thread, most);
    corners[thread].phase = {phase_row, phase_column};
  }
#pragma unroll 1
  while (true) {
    bool exists = false;
    if (thread < tiling.together) {
      TileWalk walk = corners[thread].walk;
      const WindowTile place = op.next(walk, most);
      Corner<T> corner = Corner<T>::of(op, place);
      const Pair phase = corners[thread].phase;
      corner.phase = phase;
      corner.walk = walk;
      exists = corner.exists;
      const int y = place.row + op.conv.rows.padding, x = place.column + op.conv.columns.padding;
      corner.out_row = floor_mod(phase.rows - y, op.conv.rows.stride);
      corner.out_column = floor_mod(phase.columns - x, op.conv.columns.stride);
      corner.unpooled_row =
          floor_div(corner.out_row + y, op.conv.rows.stride) + rows.offset - (rows.count - 1) * rows.reach;
      corner.unpooled_column = floor_div(corner.out_column + x, op.conv.columns.stride) + columns.offset -
                               (columns.count - 1) * columns.reach;
      corner.pooled_row = op.pool.rows.first_over(corner.unpooled_row);
      corner.pooled_column = op.pool.columns.first_over(corner.unpooled_column);
      corners[thread] = corner;
    }
    if (!__syncthreads_or(exists)) return;

    const auto tile_of = [&](int item) {
      return Unpooled{tiling.size, pooled + item * tiling.size.values(),
                      switches + (switches ? item * tiling.size.switches() : 0)};
    };
    const auto stage_pooled = [&](int chunk) {
#pragma unroll 1
      for (int i = 0; i < tiling.together; ++i)
        tile_of(i).stage(op, corners[i], group * op.channels, chunk * Tile::kDepth, thread, Tile::kThreads);
    };
    const int taps = rows.count * columns.count, chunks = taps ? shape.padded_channels / Tile::kDepth : 0;
    const T* const block = filters + blockIdx.y * shape.block_size();
    // Of a chunk, to one of the two places for filters.
    const auto stage_tap = [&](int chunk, const TapCounter& tap, int place) {
      const int ky = rows.first + tap.row * tiling.step.rows, kx = columns.first + tap.column * tiling.step.columns;
      const int64_t first_row = int64_t(ky * op.conv.columns.kernel + kx) * Tile::kColumns;
      stage_filters(block + first_row * shape.padded_channels + chunk * Tile::kDepth, shape.padded_channels,
                    right + place * Tile::kColumns * Tile::kDepth);
    };

    Tile product;
    const int of_item = in_place(tiling.tile.area());
    int cells[2];  // of this thread's rows, for the last tap
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = product.row(i) < tiling.together * of_item ? product.row(i) : 0, pixel = row % of_item;
      cells[i] =
          row / of_item * tiling.cells + pixel / tiling.tile.columns * tiling.pitch + pixel % tiling.tile.columns;
    }
    int place = 0;  // of the filters of the next product
    if (chunks) {
      stage_pooled(0);
      stage_tap(0, {}, place);
      commit_copies();
    }
    for (int chunk = 0; chunk < chunks; ++chunk) {
      wait_copies<0>();
      __syncthreads();
#pragma unroll 1
      for (int i = thread; i < tiling.together * tiling.size.unpooled.area() * Unpooled::kPacks; i += Tile::kThreads) {
        const int pack = i % Unpooled::kPacks, cell = i / Unpooled::kPacks % tiling.size.unpooled.area();
        const int item = i / Unpooled::kPacks / tiling.size.unpooled.area();
        const int row = cell / tiling.size.unpooled.columns, column = cell % tiling.size.unpooled.columns;
        float numbers[Unpooled::kPack];
        tile_of(item).unpool(op, corners[item], row, column, chunk * Tile::kDepth + pack * Unpooled::kPack, numbers);
        Pack<T, Unpooled::kPack> narrow;
#pragma unroll
        for (int k = 0; k < Unpooled::kPack; ++k) narrow.item[k] = from_float<T>(numbers[k]);
        store_pack(unpooled + Tile::place(item * tiling.cells + row * tiling.pitch + column, pack), narrow);
      }
      __syncthreads();
      if (chunk + 1 < chunks) stage_pooled(chunk + 1);
      TapCounter tap;
#pragma unroll 1
      for (int left = taps; left; --left) {
        if (left < taps) {
          wait_copies<0>();
          __syncthreads();
        }
        const int shift = (rows.count - 1 - tap.row) * tiling.reach.rows * tiling.pitch +
                          (columns.count - 1 - tap.column) * tiling.reach.columns;
        tap.next(columns.count);
        if (left > 1)
          stage_tap(chunk, tap, place ^ 1);
        else if (chunk + 1 < chunks)
          stage_tap(chunk + 1, {}, place ^ 1);
        commit_copies();
        const int shifted[2] = {cells[0] + shift, cells[1] + shift};
        product.multiply(unpooled, shifted, right + place * Tile::kColumns * Tile::kDepth);
        place ^= 1;
      }
    }

    const bool aligned = op.out.stride[1] == 1 && op.outputs % Tile::kRun == 0;
    product.for_each_run([&](int row, int column, const float (&run)[Tile::kRun]) {
      const int output = first_output + column, item = row / of_item, pixel = row % of_item;
      if (output >= op.outputs || item >= tiling.together || !corners[item].exists) return;
      const Corner<T>& corner = corners[item];
      const int y = corner.out_row + pixel / tiling.tile.columns * op.conv.rows.stride;
      const int x = corner.out_column + pixel % tiling.tile.columns * op.conv.columns.stride;
      if (y >= corner.size.rows || x >= corner.size.columns) return;
      T* const to = corner.out + y * corner.out_line + x * op.out.stride[3];
      store_run(to + (group * op.outputs + output) * op.out.stride[1], op.out.stride[1], aligned, op.outputs - output,
                run);
    });
    __syncthreads();  // nobody reads the tiles before the next ones
  }
}

template <class T>
int mma_shared_bytes(const Stage<T>& op, const PhaseTiling<T>& tiling) {
  using Tile = MatrixTile<T>;
  return round_up(tiling.together * int(sizeof(Corner<T>)), 16) + tiling.together * tiling.size.bytes(op.switches) +
         int(sizeof(T)) * Tile::kDepth * (tiling.together * tiling.cells + 2 * Tile::kColumns);
}

// The tiling with the least products and unpooled cells, of those that leave room for four blocks on a multiprocessor
// if there are any.
template <class T>
PhaseTiling<T> mma_tiling(const Stage<T>& op, int most_shared_bytes) {
  const Pair usual = op.usual_size();
  const Pair pixels{ceil_div(usual.rows, op.conv.rows.stride), ceil_div(usual.columns, op.conv.columns.stride)};
  const PhaseTaps of_rows = phase_taps(op.conv.rows, 0), of_columns = phase_taps(op.conv.columns, 0);
  const Pair more{(ceil_div(op.conv.rows.kernel, of_rows.step) - 1) * of_rows.reach,
                  (ceil_div(op.conv.columns.kernel, of_columns.step) - 1) * of_columns.reach};
  PhaseTiling<T> best{};
  int64_t least = INT64_MAX;
  for (int limit : {40 << 10, most_shared_bytes}) {
    for (int columns = 1; columns <= smaller(pixels.columns, 64); ++columns) {
      for (int rows = 1; rows <= smaller(pixels.rows, 64 / columns); ++rows) {
        PhaseTiling<T> tiling;
        tiling.tile = {rows, columns};
        const int tiles = ceil_div(pixels.rows, rows) * ceil_div(pixels.columns, columns);
        tiling.together = tiles == 1 ? smaller(64 / tiling.tile.area(), op.batch) : 1;
        tiling.step = {of_rows.step, of_columns.step};
        tiling.reach = {of_rows.reach, of_columns.reach};
        tiling.size = PhaseTiling<T>::Unpooled::Size::of({rows + more.rows, columns + more.columns}, op.pool);
        tiling.pitch = columns % 8 ? congruent(tiling.size.unpooled.columns, columns, 8) : tiling.size.unpooled.columns;
        tiling.cells = congruent(tiling.size.unpooled.rows * tiling.pitch, tiling.tile.area(), 8);
        const int64_t blocks = int64_t(ceil_div(op.batch, tiling.together)) * tiles;
        const int64_t work = blocks * (64 * ceil_div(op.conv.taps(), op.conv.rows.stride * op.conv.columns.stride) +
                                       tiling.together * tiling.size.unpooled.area());
        if (work < least && mma_shared_bytes(op, tiling) <= limit) {
          least = work;
          best = tiling;
        }
      }
    }
    if (least < INT64_MAX) return best;
  }
  throw std::runtime_error(
      "unpool_relu_conv_transpose2d: expected filters and a pooling whose reach fits shared memory");
}

// `filters`: packed in the order tap_output_channel.
template <class T>
void conv_transpose_mma(const Stage<T>& op, const FilterShape& shape, const T* filters, const PhaseTiling<T>& tiling,
                        Stream stream) {
  const Pair &tile = tiling.tile, stride{op.conv.rows.stride, op.conv.columns.stride};
  const int64_t blocks =
      ceil_div<int64_t>(op.blocks({tile.rows * stride.rows, tile.columns * stride.columns}), tiling.together) *
      stride.area();
  launch("unpool_relu_conv_transpose2d", conv_transpose_mma_kernel<T>,
         grid_of(blocks, int64_t(op.groups) * shape.blocks()), MatrixTile<T>::kThreads, mma_shared_bytes(op, tiling),
         stream, op, tiling, shape, filters);
}

}  // namespace zfkernels::cuda
