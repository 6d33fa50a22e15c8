// unpool_relu_conv_transpose2d for few outputs, such as the three of the pixels: multiply-adds in float32.
//
// A block makes 32 neighbouring columns by 16 rows of one phase of the stride, by 4 outputs; a thread 4 of the rows.
// The pooled tile and its switches come to shared memory by cp.async in whole sectors and are unpooled and rectified
// there, once, 8 channels at a time; then each filter weight, 4 outputs wide, is read once for 4 pixels. The columns of
// all phases go side by side, so that what is written is one stretch of memory.
#pragma once

#include "filters.cuh"
#include "unpool_relu_conv_transpose2d_stage.cuh"

namespace zfkernels::cuda {

template <class T>
struct PixelTile {
  static constexpr int kThreads = 128, kColumns = 32, kRowsOfThread = 4, kRows = 16, kOutputs = 4, kDepth = 8;
  using Unpooled = PooledTile<T, 32 / sizeof(T)>;  // a sector of a cell's values at a time

  Pair tile;  // outputs of all phases
  typename Unpooled::Size size;
  int taps;  // rows of taps in a phase, at most

  __host__ __device__ int unpooled_cells() const { return size.unpooled.area() | 1; }  // channels in different banks
  __host__ __device__ int unpooled_numbers() const {
    return larger(kDepth * unpooled_cells(), kRows * kColumns * kOutputs);
  }
};

template <class T>
__global__ void __launch_bounds__(128, 4)
    conv_transpose_fma_kernel(const Stage<T> op, const PixelTile<T> tiling, const FilterShape shape,
                              const float* __restrict__ filters) {
  using P = PixelTile<T>;
  using Unpooled = typename P::Unpooled;
  SharedMemory shared;
  const int kernel_columns = op.conv.columns.kernel, taps_of_channel = tiling.taps * kernel_columns;
  const int cells = tiling.unpooled_cells();
  const Unpooled tile{tiling.size, shared.take<T>(tiling.size.values(), "pooled"),
                      op.switches ? shared.take<uint8_t>(tiling.size.switches(), "switches") : nullptr};
  float* const unpooled = shared.take<float>(tiling.unpooled_numbers(), "unpooled");
  float* const weights = shared.take<float>(2 * P::kDepth * taps_of_channel * P::kOutputs, "filters");
  float* const results = unpooled;  // when there is no more to read of them

  const int thread = threadIdx.x, lane = thread % 32, first_row = thread / 32 * P::kRowsOfThread;
  const int phase = blockIdx.x % op.conv.rows.stride;
  const int group = blockIdx.y / shape.blocks(), first_output = int(blockIdx.y) % shape.blocks() * P::kOutputs;
  const PhaseTaps rows = phase_taps(op.conv.rows, phase);
  TileWalk walk = op.walk(blockIdx.x / op.conv.rows.stride, tiling.tile);
#pragma unroll 1
  for (WindowTile place = op.next(walk, tiling.tile); place.exists(); place = op.next(walk, tiling.tile)) {
    __syncthreads();  // nobody reads the tile before this one
    Corner<T> corner = Corner<T>::of(op, place);
    const int y = place.row + op.conv.rows.padding, first_x = place.column + op.conv.columns.padding;
    corner.out_row = floor_mod(phase - y, op.conv.rows.stride);
    corner.unpooled_row =
        floor_div(corner.out_row + y, op.conv.rows.stride) + rows.offset - (rows.count - 1) * rows.reach;
    corner.unpooled_column = floor_div(first_x - op.conv.columns.extent() + 1, op.conv.columns.stride);
    corner.pooled_row = op.pool.rows.first_over(corner.unpooled_row);
    corner.pooled_column = op.pool.columns.first_over(corner.unpooled_column);

    const PhaseTaps columns = phase_taps(op.conv.columns, floor_mod(first_x + lane, op.conv.columns.stride));
    const int column = floor_div(first_x + lane, op.conv.columns.stride) + columns.offset - corner.unpooled_column;
    const int most_columns = ceil_div(kernel_columns, columns.step);

    const float* const block = filters + blockIdx.y * shape.block_size();
    const auto stage_weights = [&](int chunk) {
      float* const to = weights + chunk % 2 * P::kDepth * taps_of_channel * P::kOutputs;
      const int count = rows.count * kernel_columns;
      for (int i = thread; i < P::kDepth * count; i += P::kThreads) {
        const int channel = i / count, row = i % count / kernel_columns, kx = i % count % kernel_columns;
        const int64_t from =
            int64_t(chunk * P::kDepth + channel) * shape.taps + (rows.first + row * rows.step) * kernel_columns + kx;
        copy_async<16>(to + (channel * taps_of_channel + row * kernel_columns + kx) * P::kOutputs,
                       block + from * P::kOutputs, true);
      }
    };

    float sums[P::kRowsOfThread][P::kOutputs] = {};
    const int chunks = rows.count ? shape.padded_channels / P::kDepth : 0;
    const auto stage = [&](int chunk) {
      if (chunk * P::kDepth % (Unpooled::kPacks * Unpooled::kPack) == 0)
        tile.stage(op, corner, group * op.channels, chunk * P::kDepth, thread, P::kThreads);
      stage_weights(chunk);
      commit_copies();
    };
    if (chunks) stage(0);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      wait_copies<0>();
      __syncthreads();
      const int area = tiling.size.unpooled.area();
      for (int i = thread; i < area * (P::kDepth / Unpooled::kPack); i += P::kThreads) {
        const int cell = i % area, pack = i / area;
        float numbers[Unpooled::kPack];
        tile.unpool(op, corner, cell / tiling.size.unpooled.columns, cell % tiling.size.unpooled.columns,
                    chunk * P::kDepth + pack * Unpooled::kPack, numbers);
#pragma unroll
        for (int k = 0; k < Unpooled::kPack; ++k) unpooled[(pack * Unpooled::kPack + k) * cells + cell] = numbers[k];
      }
      __syncthreads();
      if (chunk + 1 < chunks) stage(chunk + 1);
      const float* const chunk_weights = weights + chunk % 2 * P::kDepth * taps_of_channel * P::kOutputs;
      for (int channel = 0; channel < P::kDepth; ++channel)
        for (int ty = 0; ty < rows.count; ++ty) {
          const int row = first_row + (rows.count - 1 - ty) * rows.reach;
          const float* const from = unpooled + channel * cells + row * tiling.size.unpooled.columns + column;
          const float* const weight = chunk_weights + (channel * taps_of_channel + ty * kernel_columns) * P::kOutputs;
          for (int tx = 0; tx < most_columns; ++tx) {
            // Columns of a phase with fewer taps multiply by nothing: all lanes go the same way.
            const bool reached = tx < columns.count;
            const int tap = reached ? tx : 0;
            const auto w = load_pack<float, P::kOutputs>(
                weight + (columns.first % kernel_columns + tap * columns.step) * P::kOutputs);
#pragma unroll
            for (int j = 0; j < P::kRowsOfThread; ++j) {
              const float loaded =
                  load_pack<float, 1>(from + j * tiling.size.unpooled.columns - tap * columns.reach).item[0];
              const float value = reached ? loaded : 0.f;
#pragma unroll
              for (int o = 0; o < P::kOutputs; ++o) multiply_add(sums[j][o], value, w.item[o]);
            }
          }
        }
    }

    const int outputs = smaller(P::kOutputs, op.outputs - first_output), channel = group * op.outputs + first_output;
    const int width = place.size.columns;
    const bool side_by_side = op.out.stride[1] == 1 && op.out.stride[3] == outputs;
    T* const out = corner.out + channel * op.out.stride[1];
    if (!side_by_side) {  // the columns are
#pragma unroll
      for (int j = 0; j < P::kRowsOfThread; ++j) {
        const int out_row = corner.out_row + (first_row + j) * op.conv.rows.stride;
        if (lane >= width || out_row >= place.size.rows) continue;
#pragma unroll
        for (int o = 0; o < P::kOutputs; ++o)
          if (o < outputs)
            out[o * op.out.stride[1] + out_row * corner.out_line + lane * op.out.stride[3]] = from_float<T>(sums[j][o]);
      }
      continue;
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < P::kRowsOfThread; ++j)
#pragma unroll
      for (int o = 0; o < P::kOutputs; ++o)
        if (o < outputs) results[(first_row + j) * P::kColumns * P::kOutputs + lane * outputs + o] = sums[j][o];
    __syncwarp();  // each warp writes what it made itself
    for (int j = 0; j < P::kRowsOfThread; ++j) {
      const int out_row = corner.out_row + (first_row + j) * op.conv.rows.stride;
      if (out_row >= place.size.rows) continue;
      T* const to = out + out_row * corner.out_line;
      for (int i = lane; i < width * outputs; i += 32)
        to[i] = from_float<T>(results[(first_row + j) * P::kColumns * P::kOutputs + i]);
    }
  }
}

template <class T>
PixelTile<T> pixel_tile(const Stage<T>& op) {
  using P = PixelTile<T>;
  const PhaseTaps taps = phase_taps(op.conv.rows, 0);
  PixelTile<T> tiling;
  tiling.taps = ceil_div(op.conv.rows.kernel, taps.step);
  tiling.tile = {P::kRows * op.conv.rows.stride, P::kColumns};
  tiling.size = P::Unpooled::Size::of({P::kRows + (tiling.taps - 1) * taps.reach,
                                       (P::kColumns + op.conv.columns.extent() - 2) / op.conv.columns.stride + 2},
                                      op.pool);
  return tiling;
}

template <class T>
int fma_shared_bytes(const Stage<T>& op, const PixelTile<T>& tiling) {
  using P = PixelTile<T>;
  return tiling.size.bytes(op.switches) + 4 * (round_up(tiling.unpooled_numbers(), 4) +
                                               2 * P::kDepth * tiling.taps * op.conv.columns.kernel * P::kOutputs);
}

// `filters`: packed as float32 in the order channel_tap_output.
template <class T>
void conv_transpose_fma(const Stage<T>& op, const FilterShape& shape, const float* filters, int most_shared_bytes,
                        Stream stream) {
  const PixelTile<T> tiling = pixel_tile(op);
  const int shared_bytes = fma_shared_bytes(op, tiling);
  if (shared_bytes > most_shared_bytes)
    throw std::runtime_error(
        "unpool_relu_conv_transpose2d: expected filters and a pooling whose reach fits shared memory");
  launch("unpool_relu_conv_transpose2d", conv_transpose_fma_kernel<T>,
         grid_of(op.blocks(tiling.tile) * op.conv.rows.stride, int64_t(op.groups) * shape.blocks()),
         PixelTile<T>::kThreads, shared_bytes, stream, op, tiling, shape, filters);
}

}  // namespace zfkernels::cuda
