#include "window_max_pool2d_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
#if defined(__CUDACC__)
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T) template void window_max_pool<T>(const WindowMaxPool<T>&, bool, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda
#endif

#if !defined(__CUDA_ARCH__)
#include "window_tensors.h"

namespace zfkernels::cuda {
namespace {

Tensor window_max_pool2d(const Tensor& values, const Tensor& origins, const Tensor& image, const Tensor& frames,
                         Ints kernel_size, const Tensor& out_origins, Ints out_size, Ints stride, Ints padding,
                         Ints dilation) {
  const OnDeviceOf device(values);
  const Tensor out = empty_channels_last(values, {values.size(0), values.size(1), out_size[0], out_size[1]});
  if (out.numel() == 0) return out;
  const WindowTensors windows(values, origins, image, frames, out_origins);
  for_dtype(values, [&](auto zero) {
    using T = decltype(zero);
    const WindowCells<T> cells = windows.cells<T>();
    window_max_pool<T>(
        {cells, data_of<T>(out, "out"), pair(out_size), sliding(pair(kernel_size), stride, padding, dilation)},
        windows.copy_bytes<T>(cells.channels) == 16, device.stream);
  });
  return out;
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("window_max_pool2d", TORCH_BOX(&zfkernels::cuda::window_max_pool2d));
}

#endif
