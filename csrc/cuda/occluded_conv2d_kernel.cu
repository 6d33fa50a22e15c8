#include "occluded_conv2d_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
#if defined(__CUDACC__)
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T)                                                                                   \
  template void occluded_conv<T>(OccludedConv<T>, const FilterShape&, const float*, float*, int, Stream); \
  template void pack_filters<Order::tap_channel_output>(const FilterSource<T>&, const FilterShape&, float*, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda
#endif

#if !defined(__CUDA_ARCH__)
#include "equal_tensors.h"

namespace zfkernels::cuda {
namespace {

Tensor occluded_conv2d(const Tensor& images, const Tensor& weight, const std::optional<Tensor>& bias,
                       const Tensor& positions, const Tensor& image, const Tensor& fill, Ints window,
                       const Tensor& out_origins, Ints out_size, Ints stride, Ints padding, Ints dilation,
                       int64_t groups, bool relu) {
  const OnDeviceOf device(images);
  const int64_t count = positions.size(0);
  const Tensor out = empty_channels_last(images, {count, weight.size(0), out_size[0], out_size[1]});
  if (out.numel() == 0) return out;
  check_origins(positions, count);
  check_origins(out_origins, count);
  STD_TORCH_CHECK(image.numel() == count, "expected image [", count, "], got ", image.numel());
  STD_TORCH_CHECK(groups > 0 && weight.size(0) % groups == 0 && weight.size(1) * groups == images.size(1),
                  "expected weight [C_out, C / groups, kh, kw], got other channels");
  STD_TORCH_CHECK(!bias || bias->numel() == weight.size(0), "expected bias [C_out]");
  STD_TORCH_CHECK(fill.dim() == 4 ? fill.numel() == images.numel() : fill.numel() == images.size(1),
                  "expected fill [C] or of the images' shape");
  const Tensor corners = torch::stable::contiguous(positions), index = torch::stable::contiguous(image);
  const Tensor to = torch::stable::contiguous(out_origins), shown = torch::stable::contiguous(fill);
  const std::optional<Tensor> offsets = bias ? std::optional(torch::stable::contiguous(*bias)) : std::nullopt;
  for_dtype(images, [&](auto zero) {
    using T = decltype(zero);
    OccludedConv<T> op{};
    op.images = view_of<const T>(images, "images");
    op.fill =
        shown.dim() == 4 ? view_of<const T>(shown, "fill") : View<const T>{data_of<const T>(shown, "fill"), {0, 1}};
    op.positions = data_of<const int32_t>(corners, "positions");
    op.out_origins = data_of<const int32_t>(to, "out_origins");
    op.image = data_of<const int64_t>(index, "image");
    op.bias = offsets ? data_of<const T>(*offsets, "bias") : nullptr;
    op.out = data_of<T>(out, "out");
    op.positions_count = to_int(count);
    op.image_count = to_int(images.size(0));
    op.groups = to_int(groups);
    op.channels = to_int(weight.size(1));
    op.outputs = to_int(weight.size(0) / groups);
    op.size = size_of(images);
    op.window = pair(window);
    op.out_size = pair(out_size);
    op.conv = sliding(size_of(weight), stride, padding, dilation);
    op.relu = relu;

    const View<const T> filters = view_of<const T>(weight, "weight");
    const FilterSource<T> source{
        filters.data,      op.outputs * filters.stride[0], filters.stride[1], filters.stride[0], filters.stride[2],
        filters.stride[3], op.conv.columns.kernel};
    const FilterShape shape{op.groups, op.channels, op.outputs, op.conv.taps(), OccludedTile::kOutputs, op.channels};
    const Tensor packed = buffer(weight, shape.size(), ScalarType::Float);
    const Tensor constant = buffer(weight, weight.size(0), ScalarType::Float);
    float* const taps = data_of<float>(packed, "packed filters");
    pack_filters<Order::tap_channel_output>(source, shape, taps, device.stream);
    occluded_conv<T>(op, shape, taps, shown.dim() == 4 ? nullptr : data_of<float>(constant, "constant"),
                     current_device().most_shared_bytes, device.stream);
  });
  return out;
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("occluded_conv2d", TORCH_BOX(&zfkernels::cuda::occluded_conv2d));
}

#endif
