#include "max_pool2d_with_switches_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T) template void max_pool<T>(const MaxPool<T>&, bool, bool, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda

#if !defined(__CUDA_ARCH__)
#include <tuple>

#include "tensors.h"

namespace zfkernels::cuda {
namespace {

std::tuple<Tensor, Tensor> max_pool2d_with_switches(const Tensor& input, Ints kernel_size, Ints stride, Ints padding,
                                                    Ints dilation, bool ceil_mode) {
  const OnDeviceOf device(input);
  const Sliding pool = to_sliding(to_pair<int>(kernel_size), stride, padding, dilation);
  const std::array<int64_t, 4> size{input.size(0), input.size(1), pool.rows.outputs(input.size(2), ceil_mode),
                                    pool.columns.outputs(input.size(3), ceil_mode)};
  const Tensor values = empty_like_format(input, size, input.scalar_type());
  const Tensor switches = empty_like_format(input, size, ScalarType::Byte);
  if (values.numel() == 0) return {values, switches};
  const bool last = is_channels_last(values) && !values.is_contiguous();
  for_dtype(input, [&](auto zero) {
    using T = decltype(zero);
    const bool packed = last && copy_bytes<T>(input, to_size<int>(input.size(1))) == 16;
    max_pool<T>({view_of<const T>(input, "input"), view_of<T>(values, "values"), view_of<uint8_t>(switches, "switches"),
                 to_size<int>(size[0]), to_size<int>(size[1]), size_of<int>(input), size_of<int>(values), pool},
                last, packed, device.stream);
  });
  return {values, switches};
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("max_pool2d_with_switches", TORCH_BOX(&zfkernels::cuda::max_pool2d_with_switches));
}

#endif
