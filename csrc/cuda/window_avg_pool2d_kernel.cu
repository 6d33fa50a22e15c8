#include "window_avg_pool2d_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T) template void window_avg_pool<T>(const WindowAvgPool<T>&, bool, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda

#if !defined(__CUDA_ARCH__)
#include "window_tensors.h"

namespace zfkernels::cuda {
namespace {

Tensor window_avg_pool2d(const Tensor& values, const Tensor& boxes, const Tensor& offsets, const Tensor& image,
                         const std::optional<Tensor>& frames, Ints frame, const Tensor& out_boxes,
                         const Tensor& out_offsets, const Tensor& owner, int64_t cells, Ints kernel_size, Ints stride,
                         Ints padding, bool count_include_pad, std::optional<int64_t> divisor_override) {
  const OnDeviceOf device(values);
  const Tensor out = empty_cells(values, cells, values.size(1));
  if (out.numel() == 0) return out;
  const WindowTensors windows(
      {values, boxes, offsets, image, frames, to_pair<int>(frame), out_boxes, out_offsets, owner, cells});
  for_dtype(values, [&](auto zero) {
    using T = decltype(zero);
    const WindowCells<T> read = windows.cells<T>();
    window_avg_pool<T>({read,
                        data_of<T>(out, "out"),
                        to_sliding(to_pair<int>(kernel_size), stride, padding, {1, 1}),
                        {count_include_pad, divisor_override.value_or(0)}},
                       windows.copy_bytes<T>(read.channels) == 16, device.stream);
  });
  return out;
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("window_avg_pool2d", TORCH_BOX(&zfkernels::cuda::window_avg_pool2d));
}

#endif
