#include "filters.cuh"
#include "unpool_relu_conv_transpose2d_fma_kernel.cuh"
#include "unpool_relu_conv_transpose2d_mma_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T)                                                                                              \
  template void conv_transpose_mma<T>(const Stage<T>&, const FilterShape&, const T*, const PhaseTiling<T>&, Stream); \
  template void conv_transpose_fma<T>(const Stage<T>&, const FilterShape&, const float*, int, Stream);               \
  template void pack_filters<Order::tap_output_channel>(const FilterSource<T>&, const FilterShape&, T*, Stream);     \
  template void pack_filters<Order::channel_tap_output>(const FilterSource<T>&, const FilterShape&, float*, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda

#if !defined(__CUDA_ARCH__)
#include "window_tensors.h"

namespace zfkernels::cuda {
namespace {

template <class T>
void run_stage(const Stage<T>& stage, const Tensor& weight, Stream stream) {
  const Device device = current_device();
  const bool mma = device.multiplies_matrices(stage.outputs);
  const View<const T> filters = view_of<const T>(weight, "weight");
  const FilterSource<T> source{
      filters.data,      stage.channels * filters.stride[0], filters.stride[0], filters.stride[1], filters.stride[2],
      filters.stride[3], stage.conv.columns.kernel};
  const int depth = mma ? MatrixTile<T>::kDepth : PixelTile<T>::kDepth;
  const FilterShape shape{stage.groups,
                          stage.channels,
                          stage.outputs,
                          stage.conv.taps(),
                          mma ? MatrixTile<T>::kColumns : PixelTile<T>::kOutputs,
                          round_up(stage.channels, depth)};
  const Tensor packed = buffer(weight, shape.size(), mma ? weight.scalar_type() : ScalarType::Float);
  if (mma) {
    T* const to = data_of<T>(packed, "packed filters");
    pack_filters<Order::tap_output_channel>(source, shape, to, stream);
    conv_transpose_mma<T>(stage, shape, to, mma_tiling(stage, device.most_shared_bytes), stream);
  } else {
    float* const to = data_of<float>(packed, "packed filters");
    pack_filters<Order::channel_tap_output>(source, shape, to, stream);
    conv_transpose_fma<T>(stage, shape, to, device.most_shared_bytes, stream);
  }
}

struct StageArguments {
  Tensor values;  // [N, C, Hp, Wp], or windows' [cells, C]
  std::optional<Tensor> switches;
  Tensor weight;
  Sliding pool, conv;
  Pair unpooled;
  int64_t groups;
  bool sum, rectify;
};

// Windows and the outputs that are made of them.
struct StageWindows {
  HeldPlaces at;
  HeldOutputs out;
  Tensor image;
};

template <class T>
Stage<T> stage_of(const StageArguments& given, const Tensor& cells, const std::optional<Tensor>& switches) {
  Stage<T> stage{};
  stage.values = data_of<const T>(cells, "values");
  stage.groups = to_size<int>(given.groups);
  stage.channels = to_size<int>(cells.size(1) / given.groups);
  stage.outputs = to_size<int>(given.weight.size(1));
  stage.value_bytes = copy_bytes<T>(cells, stage.channels);
  if (switches) {
    const View<const uint8_t> code = view_of<const uint8_t>(*switches, "switches");
    stage.switches = code.data;
    stage.switch_bytes = copy_bytes<uint8_t>(*switches, stage.channels);
    for (int i = 0; i < 3; ++i) stage.switch_stride[i] = code.stride[i ? i + 1 : 0];
    stage.pooled = size_of<int>(*switches);
    stage.images = to_size<int>(switches->size(0));
  } else {
    stage.pooled = given.unpooled;
  }
  stage.unpooled = given.unpooled;
  stage.pool = given.pool;
  stage.conv = given.conv;
  stage.holders = most_holders(stage.pool);
  stage.last = !given.sum;
  stage.rectify = given.rectify;
  return stage;
}

// `out`: [N, C_in, H, W], of windows [cells, C_in] or of that many numbers in this order.
void run(const StageArguments& given, const StageWindows* windows, const Tensor& out, Stream stream) {
  check_conv_transpose2d(given.weight, given.values.size(1), given.groups);
  const Tensor cells = with_contiguous_cells(given.values);
  const std::optional<Tensor> codes = with_contiguous_cells(given.switches);
  if (codes) check_dtype(*codes, ScalarType::Byte, "switches");
  for_dtype(given.values, [&](auto zero) {
    using T = decltype(zero);
    Stage<T> stage = stage_of<T>(given, cells, codes);
    if (windows) {
      const int64_t all_outputs = given.weight.size(1) * given.groups;
      stage.value_stride[2] = cells.stride(0);
      stage.windows = windows->at.get();
      stage.image = data_of<const int64_t>(windows->image, "image");
      stage.at = windows->out.get();
      stage.batch = stage.windows.count;
      stage.out = {data_of<T>(out, "out"), {0, 1, 0, all_outputs}};
    } else {
      const View<const T> view = view_of<const T>(cells, "values");
      for (int i = 0; i < 3; ++i) stage.value_stride[i] = view.stride[i ? i + 1 : 0];
      stage.batch = to_size<int>(cells.size(0));
      stage.out = view_of<T>(out, "out");
      stage.out_size = size_of<int>(out);
    }
    run_stage(stage, given.weight, stream);
  });
}

Tensor window_unpool_relu_conv_transpose2d(const Tensor& values, const Tensor& boxes, const Tensor& offsets,
                                           const Tensor& image, const std::optional<Tensor>& frames, const Ints& frame,
                                           const std::optional<Tensor>& switches, const Tensor& weight,
                                           const Tensor& out_boxes, const Tensor& out_offsets, const Tensor& owner,
                                           int64_t cells, const Ints& pool_kernel_size, const Ints& pool_stride,
                                           const Ints& pool_padding, const Ints& pool_dilation,
                                           const Ints& unpooled_size, const Ints& stride, const Ints& padding,
                                           const Ints& dilation, int64_t groups, bool sum, bool rectify) {
  STD_TORCH_CHECK(!frames, "expected no frames around the windows");
  const OnDeviceOf device(values);
  const Tensor out = empty_cells(values, cells, weight.size(1) * groups);
  if (out.numel() == 0) return out;
  check_image(image, boxes.size(0));
  check_out_boxes(out_boxes, boxes.size(0));
  check_switches(switches, values.size(1), frame);
  const StageWindows windows{{boxes, offsets, values.size(0), "boxes", "offsets"},
                             {out_boxes, out_offsets, owner, cells},
                             torch::stable::contiguous(image)};
  run({values, switches, weight, to_sliding(to_pair<int>(pool_kernel_size), pool_stride, pool_padding, pool_dilation),
       to_sliding(size_of<int>(weight), stride, padding, dilation), to_pair<int>(unpooled_size), groups, sum, rectify},
      &windows, out, device.stream);
  return out;
}

Tensor unpool_relu_conv_transpose2d(const Tensor& values, const std::optional<Tensor>& switches, const Tensor& weight,
                                    const Ints& pool_kernel_size, const Ints& pool_stride, const Ints& pool_padding,
                                    const Ints& pool_dilation, const Ints& unpooled_size, const Ints& stride,
                                    const Ints& padding, const Ints& dilation, int64_t groups, const Ints& output_size,
                                    bool sum, bool rectify) {
  const OnDeviceOf device(values);
  const std::array<int64_t, 4> size{values.size(0), weight.size(1) * groups, output_size[0], output_size[1]};
  const Tensor out = empty_like_format(values, size, values.scalar_type());
  if (out.numel() == 0) return out;
  run({values, switches, weight, to_sliding(to_pair<int>(pool_kernel_size), pool_stride, pool_padding, pool_dilation),
       to_sliding(size_of<int>(weight), stride, padding, dilation), to_pair<int>(unpooled_size), groups, sum, rectify},
      nullptr, out, device.stream);
  return out;
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("unpool_relu_conv_transpose2d", TORCH_BOX(&zfkernels::cuda::unpool_relu_conv_transpose2d));
  m.impl("window_unpool_relu_conv_transpose2d", TORCH_BOX(&zfkernels::cuda::window_unpool_relu_conv_transpose2d));
}

#endif
