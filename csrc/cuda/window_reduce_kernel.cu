#include "window_reduce_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T)                                                   \
  template void reduce_windows<T, false>(const WindowReduce<T>&, Stream); \
  template void reduce_windows<T, true>(const WindowReduce<T>&, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda

#if !defined(__CUDA_ARCH__)
#include "window_tensors.h"

namespace zfkernels::cuda {
namespace {

Tensor window_reduce(const Tensor& values, const Tensor& boxes, const Tensor& offsets, const Tensor& image,
                     const std::optional<Tensor>& frames, Ints frame, bool maximum) {
  const OnDeviceOf device(values);
  const int64_t channels = values.size(1);
  const Tensor out = empty_cells(values, boxes.size(0), channels);
  if (out.numel() == 0) return out;
  const Pair size = to_pair<int>(frame);
  const HeldSource source(values, boxes, offsets);
  const HeldFrames around(frames, image, source.count(), channels, size);
  const int64_t images = frames ? frames->size(0) : 0;
  const auto running = [&](int64_t count) { return buffer(values, images * count * channels, ScalarType::Float); };
  const int64_t of_cells = int64_t(size.rows) * (int64_t(size.columns) + 1), of_rows = int64_t(size.rows) + 1;
  const Tensor before = running(of_cells), after = running(of_cells), above = running(of_rows),
               below = running(of_rows);
  for_dtype(values, [&](auto zero) {
    using T = decltype(zero);
    const WindowReduce<T> op{source.get<T>(),
                             around.get<T>(),
                             {data_of<float>(before, "before"), data_of<float>(after, "after"),
                              data_of<float>(above, "above"), data_of<float>(below, "below")},
                             data_of<T>(out, "out"),
                             to_size<int>(channels)};
    maximum ? reduce_windows<T, true>(op, device.stream) : reduce_windows<T, false>(op, device.stream);
  });
  return out;
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("window_reduce", TORCH_BOX(&zfkernels::cuda::window_reduce));
}

#endif
