#include "window_conv2d_fma_kernel.cuh"
#include "window_conv2d_mma_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T)                                                                                          \
  template void window_conv_mma<T>(const WindowConv<T>&, const FilterShape&, const T*, Stream);                  \
  template void window_conv_fma<T>(const WindowConv<T>&, const float*, Stream);                                  \
  template void pack_filters<Order::tap_output_channel>(const FilterSource<T>&, const FilterShape&, T*, Stream); \
  template void pack_filters<Order::tap_channel_output>(const FilterSource<T>&, const FilterShape&, float*, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda

#if !defined(__CUDA_ARCH__)
#include "window_tensors.h"

namespace zfkernels::cuda {
namespace {

// A product's depth is padded to 64 bytes of channels: with fewer than half of that, multiply-adds do less work.
constexpr int kLeastMmaChannels = 8;

template <class T>
void run_conv(const WindowConv<T>& op, const Tensor& weight, Stream stream) {
  const View<const T> filters = view_of<const T>(weight, "weight");
  const bool mma = current_device().multiplies_matrices(smaller(op.outputs, op.channels * 16 / kLeastMmaChannels));
  FilterSource<T> source{
      filters.data,      op.outputs * filters.stride[0], filters.stride[1], filters.stride[0], filters.stride[2],
      filters.stride[3], op.conv.columns.kernel};
  if (mma) {
    using Tile = MatrixTile<T>;
    const FilterShape shape{op.groups,      op.channels,    op.outputs,
                            op.conv.taps(), Tile::kColumns, round_up(op.channels, Tile::kDepth)};
    const Tensor packed = buffer(weight, shape.size(), weight.scalar_type());
    T* const to = data_of<T>(packed, "packed filters");
    pack_filters<Order::tap_output_channel>(source, shape, to, stream);
    window_conv_mma(op, shape, to, stream);
  } else {  // all outputs of all groups side by side
    const int all = op.groups * op.outputs;
    const FilterShape shape{1, op.channels, all, op.conv.taps(), all, op.channels};
    const Tensor packed = buffer(weight, shape.size(), ScalarType::Float);
    float* const to = data_of<float>(packed, "packed filters");
    pack_filters<Order::tap_channel_output>(source, shape, to, stream);
    window_conv_fma(op, to, stream);
  }
}

struct Layer {
  Tensor weight;
  std::optional<Tensor> bias;
  Sliding sliding;
  int64_t groups;
  bool relu;
};

void convolve(const WindowArguments& given, const Layer& layer, const Tensor& out, Stream stream) {
  const Tensor& weight = layer.weight;
  check_conv2d(weight, layer.bias, given.values.size(1), layer.groups);
  const WindowTensors windows(given);
  const std::optional<Tensor> bias = contiguous(layer.bias);
  for_dtype(given.values, [&](auto zero) {
    using T = decltype(zero);
    const int channels = to_size<int>(weight.size(1));
    run_conv<T>({windows.cells<T>(), bias ? data_of<const T>(*bias, "bias") : nullptr, data_of<T>(out, "out"),
                 layer.sliding, to_size<int>(layer.groups), channels, to_size<int>(weight.size(0) / layer.groups),
                 layer.relu, windows.copy_bytes<T>(channels)},
                weight, stream);
  });
}

Tensor window_conv2d(const Tensor& values, const Tensor& boxes, const Tensor& offsets, const Tensor& image,
                     const std::optional<Tensor>& frames, Ints frame, const Tensor& weight,
                     const std::optional<Tensor>& bias, const Tensor& out_boxes, const Tensor& out_offsets,
                     const Tensor& owner, int64_t cells, Ints stride, Ints padding, Ints dilation, int64_t groups,
                     bool relu) {
  const OnDeviceOf device(values);
  const Tensor out = empty_cells(values, cells, weight.size(0));
  if (out.numel() > 0)
    convolve({values, boxes, offsets, image, frames, to_pair<int>(frame), out_boxes, out_offsets, owner, cells},
             {weight, bias, to_sliding(size_of<int>(weight), stride, padding, dilation), groups, relu}, out,
             device.stream);
  return out;
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("window_conv2d", TORCH_BOX(&zfkernels::cuda::window_conv2d));
}

#endif
