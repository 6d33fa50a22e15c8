// window_conv2d for few outputs of a group, depthwise filters among them: multiply-adds in float32.
//
// Neighbouring threads make neighbouring output channels of the same 4 pixels: weights come in one stretch, a cell's
// channel is one read for a warp (or one stretch, if each output has an input channel of its own).
#pragma once

#include "window_conv2d_mma_kernel.cuh"

namespace zfkernels::cuda {

constexpr int kPixelsOfThread = 4;

// `filters` [taps, channels of a group, all outputs].
template <class T>
__global__ void __launch_bounds__(128)
    window_conv_fma_kernel(const WindowConv<T> op, int blocks_of_outputs, const float* __restrict__ filters) {
  const int all_outputs = op.groups * op.outputs;
  // A block is so many outputs by so many groups of pixels.
  const int width = smaller(128, round_up(all_outputs, 4));
  const int output = blockIdx.x % blocks_of_outputs * width + int(threadIdx.x) % width;
  const int rows = 128 / width, row = int(threadIdx.x) / width;
  const int64_t first = (int64_t(blockIdx.x) / blocks_of_outputs * rows + row) * kPixelsOfThread;
  if (output >= all_outputs || row >= rows || first >= op.pixels()) return;
  const int group_channel = output / op.outputs * op.channels;

  Reads<T> reads[kPixelsOfThread];
#pragma unroll
  for (int i = 0; i < kPixelsOfThread; ++i)
    reads[i] = op.cells.reads(first + i < op.pixels() ? first + i : op.pixels() - 1, op.conv);
  float sums[kPixelsOfThread] = {};
  for (int ky = 0; ky < op.conv.rows.kernel; ++ky)
    for (int kx = 0; kx < op.conv.columns.kernel; ++kx) {
      const T* cells[kPixelsOfThread];
#pragma unroll
      for (int i = 0; i < kPixelsOfThread; ++i)
        cells[i] = op.cells.find(reads[i], reads[i].row + ky * op.conv.rows.dilation,
                                 reads[i].column + kx * op.conv.columns.dilation);
      const int tap = ky * op.conv.columns.kernel + kx;
      for (int channel = 0; channel < op.channels; ++channel) {
        const float weight = __ldg(filters + (int64_t(tap) * op.channels + channel) * all_outputs + output);
#pragma unroll
        for (int i = 0; i < kPixelsOfThread; ++i)
          multiply_add(sums[i], weight, cells[i] ? to_float(cells[i][group_channel + channel]) : 0.f);
      }
    }
#pragma unroll
  for (int i = 0; i < kPixelsOfThread; ++i)
    if (first + i < op.pixels()) op.out[(first + i) * all_outputs + output] = from_float<T>(op.finish(sums[i], output));
}

template <class T>
void window_conv_fma(const WindowConv<T>& op, const float* filters, Stream stream) {
  const int all_outputs = op.groups * op.outputs, width = smaller(128, round_up(all_outputs, 4));
  const int blocks = ceil_div(all_outputs, width);
  const int64_t pixels = ceil_div<int64_t>(op.pixels(), 128 / width * kPixelsOfThread);
  launch("window_conv2d", window_conv_fma_kernel<T>, grid_of(pixels * blocks), 128, 0, stream, op, blocks, filters);
}

}  // namespace zfkernels::cuda
