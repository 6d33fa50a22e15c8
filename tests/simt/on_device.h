// csrc/cuda/on_device.h for the emulator: kernels are operators of CPU tensors, whose memory the records know by name.
#if !defined(ZFK_ON_DEVICE)
#define ZFK_ON_DEVICE

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include "primitives.cuh"

#define ZFK_KERNELS(m) STABLE_TORCH_LIBRARY_IMPL(zfkernels_simt, CPU, m)

namespace zfkernels::cuda {

using torch::stable::Tensor;

class OnDeviceOf {
 public:
  explicit OnDeviceOf(const Tensor&) : stream(simt::current_stream()) {}
  Stream stream;

 private:
  simt::DeviceGuard guard_;
};

template <class T>
T* data_of(const Tensor& tensor, const char* name) {
  T* const data = static_cast<T*>(tensor.data_ptr());
  int64_t last = 0;
  for (int64_t i = 0; i < tensor.dim(); ++i) last += (tensor.size(i) - 1) * tensor.stride(i);
  if (simt::monitor() && tensor.numel() > 0)
    simt::monitor()->array(name, data, (last + 1) * sizeof(T), sizeof(T), false);
  return data;
}

}  // namespace zfkernels::cuda

#endif
