#include "window_max_pool2d_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T) template void window_max_pool<T>(const WindowMaxPool<T>&, bool, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda

#if !defined(__CUDA_ARCH__)
#include "window_tensors.h"

namespace zfkernels::cuda {
namespace {

void pool(const WindowArguments& given, const Sliding& layer, const Tensor& out, Stream stream) {
  const WindowTensors windows(given);
  for_dtype(given.values, [&](auto zero) {
    using T = decltype(zero);
    const WindowCells<T> cells = windows.cells<T>();
    window_max_pool<T>({cells, data_of<T>(out, "out"), layer}, windows.copy_bytes<T>(cells.channels) == 16, stream);
  });
}

Tensor window_max_pool2d(const Tensor& values, const Tensor& boxes, const Tensor& offsets, const Tensor& image,
                         const std::optional<Tensor>& frames, Ints frame, const Tensor& out_boxes,
                         const Tensor& out_offsets, const Tensor& owner, int64_t cells, Ints kernel_size, Ints stride,
                         Ints padding, Ints dilation) {
  const OnDeviceOf device(values);
  const Tensor out = empty_cells(values, cells, values.size(1));
  if (out.numel() > 0)
    pool({values, boxes, offsets, image, frames, to_pair<int>(frame), out_boxes, out_offsets, owner, cells},
         to_sliding(to_pair<int>(kernel_size), stride, padding, dilation), out, device.stream);
  return out;
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("window_max_pool2d", TORCH_BOX(&zfkernels::cuda::window_max_pool2d));
}

#endif
