// occluded_conv2d: the first convolution of an occlusion sweep, all boxes in one launch.
//
//   out[i, o] = bias[o] + sum over c, ky, kx of w[o, c, ky, kx] * q(p, c, y * s - pad + ky * d, x * s - pad + kx * d)
//
// with (p, y, x) the window and the place of output i, and q the image with boxes[p], or those of its cells that a mask
// names, showing the fill. A block makes a tile of outputs of one window by 64 channels. The occluded patch that it
// reads is made in shared memory, the filter taps lie beside it; a thread has 4 channels of 4 pixels, a weight is 16
// bytes. Outputs that see nothing but one fill of all boxes are one constant vector, made once.
#pragma once

#include "filters.cuh"
#include "matrix_tile.cuh"
#include "window_tiles.cuh"

namespace zfkernels::cuda {

// What one box hides.
template <class T>
struct Hidden {
  int window;
  int64_t image;
  Box box;
  Window<T> fill;     // where the fill is windows
  Window<bool> mask;  // where there is one
};

template <class T>
struct OccludedConv {
  View<const T> images;  // [N, C, H, W]
  // [C], [P, C] or [N, C, H, W]: its strides are 0 where it does not change; data null: windows.
  View<const T> fill;
  bool fill_of_window;    // the first stride is that of P
  Source<T> fills;        // values [fill cells, C], null: none
  Source<bool> mask;      // values [mask cells, 1], null: none
  Places boxes;           // without offsets
  const int64_t* image;   // [P]
  const T* bias;          // [C_out], null: none
  const float* constant;  // [C_out], what the inside of a box gives; null: it is not constant
  Outputs at;
  T* out;                                      // [cells, C_out]
  int image_count, groups, channels, outputs;  // of a group
  Pair size;
  Sliding conv;
  bool relu;

  __device__ __forceinline__ float finish(float sum, int output) const {
    const float value = bias ? sum + to_float(bias[output]) : sum;
    return relu ? rectified(value) : value;
  }

  __device__ __forceinline__ Hidden<T> hidden(int p) const {
    Hidden<T> found{p, image[p], boxes.box(p), {}, {}};
    require(found.image >= 0 && found.image < image_count);
    if (fills.values) found.fill = Window<T>::of(fills, p);
    if (mask.values) found.mask = Window<bool>::of(mask, p);
    return found;
  }

  // Where the number of a channel at (y, x), which is in the image, stands.
  __device__ __forceinline__ const T* pixel(const Hidden<T>& hidden, int channel, int y, int x) const {
    const T* const clean = images.at(hidden.image, channel, y, x);
    if (!hidden.box.has(y, x)) return clean;
    if (mask.values) {
      const bool* const masked = hidden.mask.find(y, x, mask.stride);
      if (!masked || !*masked) return clean;
    }
    if (!fills.values) return fill.at(fill_of_window ? hidden.window : hidden.image, channel, y, x);
    const T* const shown = hidden.fill.find(y, x, fills.stride);
    return shown ? shown + channel : clean;
  }
};

struct OccludedTile {
  static constexpr int kThreads = 256, kOutputs = 64, kRun = 4, kPixelsOfThread = 4;
  static constexpr int kLanes = kOutputs / kRun;                       // threads beside each other
  static constexpr int kPixels = kThreads / kLanes * kPixelsOfThread;  // of a pass

  int side;                // of the largest tile
  Pair patch;              // that it reads
  int channels, tap_rows;  // at a time

  __host__ __device__ int patch_pitch() const { return channels | 1; }  // cells begin in different banks
  __host__ __device__ int patch_numbers() const { return patch.area() * patch_pitch(); }
  int shared_bytes(int kernel_columns) const {
    return 4 * (round_up(patch_numbers(), 4) + tap_rows * kernel_columns * channels * kOutputs);
  }
};

// Half-open.
struct Range {
  int first, last;
  __host__ __device__ int size() const { return last - first; }
};

// Of the outputs [0, tile), which begin at `out` in the frame, those that see only the `window` cells at `at`, which
// may hang over the border of the image.
__device__ __forceinline__ Range inside_square(const Axis& conv, int out, int tile, int at, int window, int size) {
  const int first = ceil_div(larger(at, 0) + conv.padding, conv.stride) - out;
  const int room = smaller(at + window, size) - conv.extent() + conv.padding;
  const int last = room < 0 ? 0 : room / conv.stride - out + 1;
  const int lo = smaller(larger(first, 0), tile);
  return {lo, larger(smaller(last, tile), lo)};
}

// The j-th of the tile's pixels that are not inside the square.
__device__ __forceinline__ Pair outside_square(int j, const Pair& tile, const Range& rows, const Range& columns) {
  const int above = rows.first * tile.columns, beside = tile.columns - columns.size();
  if (j < above) return {j / tile.columns, j % tile.columns};
  j -= above;
  if (j < rows.size() * beside) {
    const int x = j % beside;
    return {rows.first + j / beside, x < columns.first ? x : x + columns.size()};
  }
  j -= rows.size() * beside;
  return {rows.last + j / tile.columns, j % tile.columns};
}

template <class T>
__global__ void __launch_bounds__(128)
    constant_outputs_kernel(const OccludedConv<T> op, const FilterShape shape, const float* __restrict__ filters,
                            float* __restrict__ constant) {
  const int output = blockIdx.x * 128 + threadIdx.x;
  if (output >= op.groups * op.outputs) return;
  const int group = output / op.outputs, within = output % op.outputs;
  const float* const block = filters + (group * shape.blocks() + within / shape.block) * shape.block_size();
  float sum = 0.f;
  for (int channel = 0; channel < op.channels; ++channel) {
    const float fill = to_float(op.fill.data[group * op.channels + channel]);
    for (int tap = 0; tap < shape.taps; ++tap)
      multiply_add(sum, fill,
                   __ldg(block + (tap * shape.padded_channels + channel) * shape.block + within % shape.block));
  }
  constant[output] = op.finish(sum, output);
}

template <class T>
__global__ void __launch_bounds__(256, 2)
    occluded_conv_kernel(const OccludedConv<T> op, const OccludedTile tiling, const FilterShape shape,
                         const float* __restrict__ filters) {
  using O = OccludedTile;
  SharedMemory shared;
  const int pitch = tiling.patch_pitch(), kernel_columns = op.conv.columns.kernel;
  float* const patch = shared.take<float>(tiling.patch_numbers(), "patch");
  float* const weights =
      shared.take<float>(tiling.tap_rows * kernel_columns * tiling.channels * O::kOutputs, "filters");

  const int thread = threadIdx.x, lane = thread % O::kLanes;
  const int group = blockIdx.y / shape.blocks();
  const int first_output = int(blockIdx.y) % shape.blocks() * O::kOutputs + lane * O::kRun;
  const Pair most{tiling.side, tiling.side};
  TileWalk walk = TileWalk::of(op.at, blockIdx.x, most);
#pragma unroll 1
  for (WindowTile place = walk.next(op.at, most); place.exists(); place = walk.next(op.at, most)) {
    const Pair& tile = place.size;
    const Hidden<T> hidden = op.hidden(place.window);
    const int top = op.conv.rows.start(place.row), left = op.conv.columns.start(place.column);
    Range rows{0, 0}, columns{0, 0};
    if (op.constant) {
      const Box& box = hidden.box;
      rows = inside_square(op.conv.rows, place.row, tile.rows, box.top, box.height, op.size.rows);
      columns = inside_square(op.conv.columns, place.column, tile.columns, box.left, box.width, op.size.columns);
      if (!rows.size() || !columns.size()) rows = columns = {0, 0};
    }

    const int all_outputs = op.groups * op.outputs, channel_out = group * op.outputs + first_output;
    const bool aligned = op.outputs % O::kRun == 0;
    const auto store = [&](int y, int x, const float (&run)[O::kRun]) {
      if (first_output < op.outputs)
        store_run(op.out + (place.first + int64_t(y) * place.pitch + x) * all_outputs + channel_out, 1, aligned,
                  op.outputs - first_output, run);
    };

    // A warp reads whole stretches of neighbouring numbers, each time from the begin of a sector to the begin of one:
    // rows of pixels with all their channels where those are neighbours, else rows of a channel.
    const auto stage_patch = [&](int first, int count) {
      constexpr int kSector = 32 / sizeof(T);
      const bool whole = op.images.stride[1] == 1 && op.images.stride[3] == count;
      const int channels = whole ? count : 1, length = op.conv.columns.span(tile.columns) * channels;
#pragma unroll 1
      for (int i = thread / 32; i < op.conv.rows.span(tile.rows) * (count / channels); i += O::kThreads / 32) {
        const int row_of_patch = i / (count / channels), y = top + row_of_patch;
        const int first_channel = i % (count / channels) + first;
        const T* const from = op.images.at(hidden.image, group * op.channels + first_channel, y, left);
        const int early = int(reinterpret_cast<uintptr_t>(from) / sizeof(T) % kSector);
#pragma unroll 1
        for (int begin = -early; begin < length; begin += 32) {
          const int j = begin + thread % 32, column_of_patch = j / channels, x = left + column_of_patch;
          const int channel = first_channel + j % channels;
          const bool wanted = unsigned(j) < unsigned(length);
          const bool exists = wanted && unsigned(y) < unsigned(op.size.rows) && unsigned(x) < unsigned(op.size.columns);
          const T* const at = exists ? op.pixel(hidden, group * op.channels + channel, y, x) : op.images.data;
          store_shared_if(wanted,
                          patch + (row_of_patch * tiling.patch.columns + column_of_patch) * pitch + channel - first,
                          to_float(load_if(exists, at)));
        }
      }
    };
    const float* const block = filters + blockIdx.y * shape.block_size();
    const auto stage_weights = [&](int first, int count, int tap_row, int tap_rows) {
      const int per_tap = count * O::kLanes;
#pragma unroll 1
      for (int i = thread; i < tap_rows * kernel_columns * per_tap; i += O::kThreads) {
        const int tap = i / per_tap, rest = i % per_tap;
        copy_async<16>(weights + i * O::kRun,
                       block + (int64_t(tap_row * kernel_columns + tap) * shape.padded_channels + first) * O::kOutputs +
                           rest * O::kRun,
                       true);
      }
      commit_copies();
    };

    const int pixels = tile.area() - rows.size() * columns.size();
    const bool at_once = tiling.channels == op.channels && tiling.tap_rows == op.conv.rows.kernel;
    for (int done = 0; done < pixels; done += O::kPixels) {
      int starts[O::kPixelsOfThread];  // of the cells that a pixel reads, in the patch
      Pair at[O::kPixelsOfThread];
#pragma unroll
      for (int j = 0; j < O::kPixelsOfThread; ++j) {
        const int pixel = done + thread / O::kLanes * O::kPixelsOfThread + j;
        at[j] = outside_square(smaller(pixel, pixels - 1), tile, rows, columns);
        starts[j] =
            (at[j].rows * op.conv.rows.stride * tiling.patch.columns + at[j].columns * op.conv.columns.stride) * pitch;
      }
      float sums[O::kPixelsOfThread][O::kRun] = {};
      for (int first = 0; first < op.channels; first += tiling.channels) {
        const int count = smaller(tiling.channels, op.channels - first);
        for (int tap_row = 0; tap_row < op.conv.rows.kernel; tap_row += tiling.tap_rows) {
          const int tap_rows = smaller(tiling.tap_rows, op.conv.rows.kernel - tap_row);
          if (!at_once || done == 0) {
            __syncthreads();
            stage_weights(first, count, tap_row, tap_rows);
            if (tap_row == 0) stage_patch(first, count);
            wait_copies<0>();
            __syncthreads();
          }
#pragma unroll 1
          for (int ky = 0; ky < tap_rows; ++ky)
#pragma unroll 1
            for (int kx = 0; kx < kernel_columns; ++kx) {
              const int shift =
                  ((tap_row + ky) * op.conv.rows.dilation * tiling.patch.columns + kx * op.conv.columns.dilation) *
                  pitch;
              for (int channel = 0; channel < count; ++channel) {
                const auto weight = load_pack<float, O::kRun>(
                    weights + (((ky * kernel_columns + kx) * count + channel) * O::kLanes + lane) * O::kRun);
#pragma unroll
                for (int j = 0; j < O::kPixelsOfThread; ++j) {
                  const float value = patch[starts[j] + shift + channel];
#pragma unroll
                  for (int o = 0; o < O::kRun; ++o) multiply_add(sums[j][o], value, weight.item[o]);
                }
              }
            }
        }
      }
#pragma unroll
      for (int j = 0; j < O::kPixelsOfThread; ++j) {
        if (done + thread / O::kLanes * O::kPixelsOfThread + j >= pixels) continue;
        float run[O::kRun];
#pragma unroll
        for (int o = 0; o < O::kRun; ++o)
          run[o] = first_output + o < op.outputs ? op.finish(sums[j][o], channel_out + o) : 0.f;
        store(at[j].rows, at[j].columns, run);
      }
    }

#pragma unroll 1
    for (int i = thread / O::kLanes; i < rows.size() * columns.size(); i += O::kThreads / O::kLanes) {
      float run[O::kRun];
#pragma unroll
      for (int o = 0; o < O::kRun; ++o) run[o] = first_output + o < op.outputs ? op.constant[channel_out + o] : 0.f;
      store(rows.first + i / columns.size(), columns.first + i % columns.size(), run);
    }
  }
}

// Tiles of at most 16 x 16 outputs, fewer where windows are smaller on the average; the taps and the patch of as many
// channels as leave room for three blocks.
template <class T>
OccludedTile occluded_tile(const OccludedConv<T>& op, int most_shared_bytes) {
  OccludedTile tiling;
  tiling.side = smaller(16, usual_side(op.at.at));
  for (;; --tiling.side) {
    tiling.patch = {op.conv.rows.span(tiling.side), op.conv.columns.span(tiling.side)};
    const int64_t tap_row_bytes = int64_t(4) * OccludedTile::kOutputs * op.conv.columns.kernel;
    const int64_t area = int64_t(tiling.patch.rows) * tiling.patch.columns;
    const int fits = int(smaller((18 << 10) / (4 * area), (36 << 10) / tap_row_bytes));
    tiling.channels = smaller(op.channels, larger(1, fits));
    tiling.tap_rows = smaller(op.conv.rows.kernel, larger(1, int((38 << 10) / (tap_row_bytes * tiling.channels))));
    if (area < most_shared_bytes && tiling.shared_bytes(op.conv.columns.kernel) <= most_shared_bytes) return tiling;
    if (tiling.side == 1) throw std::runtime_error("occluded_conv2d: expected filters whose reach fits shared memory");
  }
}

// `filters`: packed as float32 in the order tap_channel_output. `constant` [C_out] is written, null: what the inside of
// a box gives is not the same for all.
template <class T>
void occluded_conv(OccludedConv<T> op, const FilterShape& shape, const float* filters, float* constant,
                   int most_shared_bytes, Stream stream) {
  if (constant) {
    launch("occluded_conv2d", constant_outputs_kernel<T>, grid_of(ceil_div(op.groups * op.outputs, 128)), 128, 0,
           stream, op, shape, filters, constant);
    op.constant = constant;
  }
  const OccludedTile tiling = occluded_tile(op, most_shared_bytes);
  launch("occluded_conv2d", occluded_conv_kernel<T>,
         grid_of(blocks_of_tiles(op.at.at, tiling.side * tiling.side), int64_t(op.groups) * shape.blocks()),
         OccludedTile::kThreads, tiling.shared_bytes(op.conv.columns.kernel), stream, op, tiling, shape, filters);
}

}  // namespace zfkernels::cuda
