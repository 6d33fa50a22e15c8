// Registration of kernels for a device, its current stream, and the memory of its tensors. Not `#pragma once`, as
// primitives.cuh.
#if !defined(ZFK_ON_DEVICE)
#define ZFK_ON_DEVICE

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include "primitives.cuh"

#define ZFK_KERNELS(m) STABLE_TORCH_LIBRARY_IMPL(zfkernels_C, CUDA, m)

namespace zfkernels::cuda {

using torch::stable::Tensor;

// Makes the tensors' device the current one while it lives; kernels go to that device's current stream.
class OnDeviceOf {
 public:
  explicit OnDeviceOf(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &current));
    stream = static_cast<Stream>(current);
  }
  Stream stream{};

 private:
  torch::stable::accelerator::DeviceGuard guard_;
};

// The numbers of the tensor that the op calls `name`.
template <class T>
T* data_of(const Tensor& tensor, const char* /*name*/) {
  return static_cast<T*>(tensor.data_ptr());
}

}  // namespace zfkernels::cuda

#endif
