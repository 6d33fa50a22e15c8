#include "filters.cuh"
#include "unpool_relu_conv_transpose2d_fma_kernel.cuh"
#include "unpool_relu_conv_transpose2d_mma_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
#if defined(__CUDACC__)
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T)                                                                                              \
  template void conv_transpose_mma<T>(const Stage<T>&, const FilterShape&, const T*, const PhaseTiling<T>&, Stream); \
  template void conv_transpose_fma<T>(const Stage<T>&, const FilterShape&, const float*, int, Stream);               \
  template void pack_filters<Order::tap_output_channel>(const FilterSource<T>&, const FilterShape&, T*, Stream);     \
  template void pack_filters<Order::channel_tap_output>(const FilterSource<T>&, const FilterShape&, float*, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda
#endif

#if !defined(__CUDA_ARCH__)
#include <optional>

#include "tensors.h"

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

Tensor unpool_relu_conv_transpose2d(const Tensor& values, const std::optional<Tensor>& switches, const Tensor& weight,
                                    const std::optional<Tensor>& origins, const std::optional<Tensor>& image,
                                    const std::optional<Tensor>& out_origins, const Ints& pool_kernel_size,
                                    const Ints& pool_stride, const Ints& pool_padding, const Ints& pool_dilation,
                                    const Ints& unpooled_size, const Ints& stride, const Ints& padding,
                                    const Ints& dilation, int64_t groups, const Ints& output_size, bool sum,
                                    bool rectify) {
  const OnDeviceOf device(values);
  const std::array<int64_t, 4> size{values.size(0), weight.size(1) * groups, output_size[0], output_size[1]};
  const Tensor out =
      origins ? empty_channels_last(values, size) : empty_like_format(values, size, values.scalar_type());
  if (out.numel() == 0) return out;
  const Tensor cells = with_contiguous_cells(values);
  const std::optional<Tensor> codes = switches ? std::optional(with_contiguous_cells(*switches)) : std::nullopt;
  const auto contiguous = [](const std::optional<Tensor>& tensor) {
    return tensor ? std::optional(torch::stable::contiguous(*tensor)) : std::nullopt;
  };
  const auto from = contiguous(origins), to = contiguous(out_origins), index = contiguous(image);
  for_dtype(values, [&](auto zero) {
    using T = decltype(zero);
    Stage<T> stage{};
    const View<const T> view = view_of<const T>(cells, "values");
    stage.values = view.data;
    stage.channels = to_int(values.size(1) / groups);
    stage.value_bytes = copy_bytes<T>(cells, stage.channels);
    for (int i = 0; i < 3; ++i) stage.value_stride[i] = view.stride[i ? i + 1 : 0];
    stage.crop = size_of(values);
    if (origins) {
      stage.origins = data_of<const int32_t>(*from, "origins");
      stage.out_origins = data_of<const int32_t>(*to, "out_origins");
      stage.image = data_of<const int64_t>(*index, "image");
    }
    if (codes) {
      const View<const uint8_t> code = view_of<const uint8_t>(*codes, "switches");
      stage.switches = code.data;
      stage.switch_bytes = copy_bytes<uint8_t>(*codes, stage.channels);
      for (int i = 0; i < 3; ++i) stage.switch_stride[i] = code.stride[i ? i + 1 : 0];
      stage.pooled = size_of(*codes);
      stage.unpooled = pair(unpooled_size);
      stage.images = to_int(codes->size(0));
    } else {
      stage.pooled = stage.unpooled = pair(unpooled_size);
    }
    stage.out = view_of<T>(out, "out");
    stage.batch = to_int(values.size(0));
    stage.groups = to_int(groups);
    stage.outputs = to_int(weight.size(1));
    stage.out_size = pair(output_size);
    stage.pool = sliding(pair(pool_kernel_size), pool_stride, pool_padding, pool_dilation);
    stage.conv = sliding(size_of(weight), stride, padding, dilation);
    stage.holders = most_holders(stage.pool);
    stage.last = !sum;
    stage.rectify = rectify;
    run_stage(stage, weight, device.stream);
  });
  return out;
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("unpool_relu_conv_transpose2d", TORCH_BOX(&zfkernels::cuda::unpool_relu_conv_transpose2d));
}

#endif
