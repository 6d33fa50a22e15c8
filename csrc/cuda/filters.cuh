// Filters in the order in which kernels read them, in blocks of outputs, zeros up to whole blocks.
#pragma once

#include "geometry.cuh"

namespace zfkernels::cuda {

enum class Order {
  tap_output_channel,  // for tensor cores: rows of channels
  tap_channel_output,  // for threads that each have outputs of their own
  channel_tap_output,  // the same, with the taps of a channel together
};

// Of one group: `channels` are summed over, `outputs` result, whichever of the two the weight names first.
struct FilterShape {
  int groups, channels, outputs, taps;
  int block, padded_channels;  // outputs in a block, channels with the zeros

  __host__ __device__ int blocks() const { return ceil_div(outputs, block); }
  __host__ __device__ int64_t block_size() const { return int64_t(taps) * padded_channels * block; }
  __host__ __device__ int64_t size() const { return groups * int64_t(blocks()) * block_size(); }
};

template <class T>
struct FilterSource {
  const T* weight;
  int64_t group_stride, channel_stride, output_stride, row_stride, column_stride;
  int columns;  // of a filter
};

template <class T, class Packed, Order kOrder>
__global__ void __launch_bounds__(256)
    pack_filters_kernel(const FilterSource<T> from, const FilterShape shape, Packed* __restrict__ packed) {
  const int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x;
  if (i >= shape.size()) return;
  int rest = int(i % shape.block_size());
  const int64_t block = i / shape.block_size();
  int tap, channel, output;
  if (kOrder == Order::tap_output_channel) {
    channel = rest % shape.padded_channels;
    output = rest / shape.padded_channels % shape.block;
    tap = rest / shape.padded_channels / shape.block;
  } else {
    output = rest % shape.block;
    rest /= shape.block;
    tap = kOrder == Order::tap_channel_output ? rest / shape.padded_channels : rest % shape.taps;
    channel = kOrder == Order::tap_channel_output ? rest % shape.padded_channels : rest / shape.taps;
  }
  output += int(block % shape.blocks()) * shape.block;
  float value = 0.f;
  if (channel < shape.channels && output < shape.outputs)
    value = to_float(from.weight[block / shape.blocks() * from.group_stride + channel * from.channel_stride +
                                 output * from.output_stride + tap / from.columns * from.row_stride +
                                 tap % from.columns * from.column_stride]);
  packed[i] = from_float<Packed>(value);
}

template <Order kOrder, class T, class Packed>
void pack_filters(const FilterSource<T>& from, const FilterShape& shape, Packed* packed, Stream stream) {
  if (shape.block_size() > INT32_MAX) throw std::runtime_error("expected smaller filters");
  launch("pack_filters", pack_filters_kernel<T, Packed, kOrder>, grid_of(ceil_div<int64_t>(shape.size(), 256)), 256, 0,
         stream, from, shape, packed);
}

}  // namespace zfkernels::cuda
