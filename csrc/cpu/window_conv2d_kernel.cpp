// window_conv2d: convolution of windows, each in its own place of its image's frame.
//
//   out[i, o] = bias[o] + sum over c, ky, kx of weight[o, c, ky, kx] * cell(p, c, y * sy - py + ky * dy,
//   x * sx - px + kx * dx) with (p, y, x) the window and the place of output i; then ReLU if asked. A cell is that of
//   window p where it has one, else that of frame image[p], else zero.
#include <optional>

#include "conv_tile.h"
#include "python_call.h"
#include "window_inputs.h"
#include "winograd_transforms.h"

#define ZFK_LOOPS "tile_conv2d_loops.h"
#include "for_each_isa.h"
#include "tile_conv2d.h"

namespace zfkernels::cpu {
namespace {

template <class T>
Tensor convolve(const WindowArguments& windows, const Tensor& weight, const std::optional<Tensor>& bias,
                const Sliding& layer, int64_t groups, bool relu) {
  const WindowInputs<T> inputs(windows, layer, T(0));
  const Tensor out = empty_cells(windows.values, inputs.reads().outputs(), weight.size(0));
  convolve_reads(inputs.reads(), weight, bias, groups, relu, out.mutable_data_ptr<T>());
  return out;
}

}  // namespace

void fix_weights(bool on) {
  on ? PackedWeights::here().begin() : PackedWeights::here().end();
}

Tensor window_conv2d(Tensor values, Tensor boxes, Tensor offsets, Tensor image, std::optional<Tensor> frames,
                     Ints frame, Tensor weight, std::optional<Tensor> bias, Tensor out_boxes, Tensor out_offsets,
                     Tensor owner, int64_t cells, Ints stride, Ints padding, Ints dilation, int64_t groups, bool relu) {
  const Sliding layer = to_sliding(size_of<int64_t>(weight), stride, padding, dilation);
  const auto run = ZFK_FOR_DTYPE(values, convolve);
  return run({values, boxes, offsets, image, frames, to_pair<int64_t>(frame), out_boxes, out_offsets, owner, cells},
             weight, bias, layer, groups, relu);
}

}  // namespace zfkernels::cpu

STABLE_TORCH_LIBRARY_IMPL(zfkernels_C, CompositeExplicitAutograd, m) {
  m.impl("fix_weights", TORCH_BOX(&zfkernels::cpu::fix_weights));
}
ZFK_CPU_KERNEL(window_conv2d);
