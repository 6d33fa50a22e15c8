#include "occluded_conv2d_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T)                                                                                   \
  template void occluded_conv<T>(OccludedConv<T>, const FilterShape&, const float*, float*, int, Stream); \
  template void pack_filters<Order::tap_channel_output>(const FilterSource<T>&, const FilterShape&, float*, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda

#if !defined(__CUDA_ARCH__)
#include "window_tensors.h"

namespace zfkernels::cuda {
namespace {

using OccludedArguments = zfkernels::OccludedArguments<int>;

// What the boxes show, and which of their cells.
class HeldFill {
 public:
  explicit HeldFill(const OccludedArguments& given)
      : fill_(given.fill_boxes || given.fill.dim() == 4 ? given.fill : torch::stable::contiguous(given.fill)) {
    if (given.fill_boxes) source_.emplace(fill_, *given.fill_boxes, given.fill_offsets.value());
    if (given.mask) mask_.emplace(*given.mask, given.mask_boxes.value(), given.mask_offsets.value());
  }

  template <class T>
  void set(OccludedConv<T>& op) const {
    op.fill_of_window = !source_ && fill_.dim() == 2;
    if (source_)
      op.fills = source_->get<T>();
    else if (fill_.dim() == 4)
      op.fill = view_of<const T>(fill_, "fill");
    else
      op.fill = {data_of<const T>(fill_, "fill"), {op.fill_of_window ? fill_.size(1) : 0, 1, 0, 0}};
    if (mask_) op.mask = mask_->get<bool>();
  }
  // Whether all boxes show the same everywhere.
  bool is_constant() const { return fill_.dim() == 1 && !mask_; }

 private:
  const Tensor fill_;
  std::optional<HeldSource> source_, mask_;
};

template <class T>
void run_conv(OccludedConv<T>& op, const Tensor& weight, bool constant, Stream stream) {
  const View<const T> filters = view_of<const T>(weight, "weight");
  const FilterSource<T> source{
      filters.data,      op.outputs * filters.stride[0], filters.stride[1], filters.stride[0], filters.stride[2],
      filters.stride[3], op.conv.columns.kernel};
  const FilterShape shape{op.groups, op.channels, op.outputs, op.conv.taps(), OccludedTile::kOutputs, op.channels};
  const Tensor packed = buffer(weight, shape.size(), ScalarType::Float);
  const Tensor inside = buffer(weight, weight.size(0), ScalarType::Float);
  float* const taps = data_of<float>(packed, "packed filters");
  pack_filters<Order::tap_channel_output>(source, shape, taps, stream);
  occluded_conv<T>(op, shape, taps, constant ? data_of<float>(inside, "constant") : nullptr,
                   current_device().most_shared_bytes, stream);
}

void convolve(const OccludedArguments& given, const Tensor& out, Stream stream) {
  const Tensor &images = given.images, &weight = given.weight;
  check_occluded(given);
  const Tensor boxes = torch::stable::contiguous(given.boxes), image = torch::stable::contiguous(given.image);
  const std::optional<Tensor> bias = contiguous(given.bias);
  const HeldFill fill(given);
  const HeldOutputs at(given.out_boxes, given.out_offsets, given.owner, given.cells);
  for_dtype(images, [&](auto zero) {
    using T = decltype(zero);
    OccludedConv<T> op{};
    op.images = view_of<const T>(images, "images");
    fill.set(op);
    op.boxes = {data_of<const int32_t>(boxes, "boxes"), nullptr, to_size<int>(given.boxes.size(0)), 0};
    op.image = data_of<const int64_t>(image, "image");
    op.bias = bias ? data_of<const T>(*bias, "bias") : nullptr;
    op.at = at.get();
    op.out = data_of<T>(out, "out");
    op.image_count = to_size<int>(images.size(0));
    op.groups = to_size<int>(given.groups);
    op.channels = to_size<int>(weight.size(1));
    op.outputs = to_size<int>(weight.size(0) / given.groups);
    op.size = size_of<int>(images);
    op.conv = given.layer;
    op.relu = given.relu;
    run_conv(op, weight, fill.is_constant(), stream);
  });
}

Tensor occluded_conv2d(const Tensor& images, const Tensor& weight, const std::optional<Tensor>& bias,
                       const Tensor& boxes, const Tensor& image, const Tensor& fill,
                       const std::optional<Tensor>& fill_boxes, const std::optional<Tensor>& fill_offsets,
                       const std::optional<Tensor>& mask, const std::optional<Tensor>& mask_boxes,
                       const std::optional<Tensor>& mask_offsets, const Tensor& out_boxes, const Tensor& out_offsets,
                       const Tensor& owner, int64_t cells, Ints stride, Ints padding, Ints dilation, int64_t groups,
                       bool relu) {
  const OnDeviceOf device(images);
  const Tensor out = empty_cells(images, cells, weight.size(0));
  if (out.numel() > 0)
    convolve(
        {images, weight, bias, boxes, image, fill, fill_boxes, fill_offsets, mask, mask_boxes, mask_offsets, out_boxes,
         out_offsets, owner, cells, to_sliding(size_of<int>(weight), stride, padding, dilation), groups, relu},
        out, device.stream);
  return out;
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("occluded_conv2d", TORCH_BOX(&zfkernels::cuda::occluded_conv2d));
}

#endif
