// What launches need of tensors, on LibTorch's stable ABI: views, the current stream, one kernel per dtype.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#if defined(__CUDACC__)
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#endif

#include <array>
#include <optional>

#include "../common/tensors.h"
#include "geometry.cuh"

// The registration of kernels in the private namespace of csrc/library.cpp; the emulated ones have one of their own.
#if defined(__CUDACC__)
#define ZFK_KERNELS(m) STABLE_TORCH_LIBRARY_IMPL(zfkernels_C, CUDA, m)
#else
#define ZFK_KERNELS(m) STABLE_TORCH_LIBRARY_IMPL(zfkernels_simt, CPU, m)
#endif

namespace zfkernels::cuda {

// Makes the tensors' device the current one while it lives; kernels go to that device's current stream.
class OnDeviceOf {
 public:
#if defined(__CUDACC__)
  explicit OnDeviceOf(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    this->stream = static_cast<Stream>(stream);
  }
#else
  explicit OnDeviceOf(const Tensor&) : stream(simt::current_stream()) {}
#endif
  Stream stream{};

 private:
#if defined(__CUDACC__)
  torch::stable::accelerator::DeviceGuard guard_;
#else
  simt::DeviceGuard guard_;
#endif
};

// The tensor's numbers. The emulator's records know them by this name.
template <class T>
T* data_of(const Tensor& tensor, [[maybe_unused]] const char* name) {
  T* const data = static_cast<T*>(tensor.data_ptr());
#if !defined(__CUDACC__)
  int64_t last = 0;
  for (int64_t i = 0; i < tensor.dim(); ++i) last += (tensor.size(i) - 1) * tensor.stride(i);
  if (simt::monitor() && tensor.numel() > 0)
    simt::monitor()->array(name, data, (last + 1) * sizeof(T), sizeof(T), false);
#endif
  return data;
}

template <class T>
View<T> view_of(const Tensor& tensor, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 4, "expected ", name, " of 4 dimensions, got ", tensor.dim());
  View<T> view{data_of<T>(tensor, name), {}};
  for (int i = 0; i < 4; ++i) view.stride[i] = tensor.stride(i);
  return view;
}

// The largest of 16, 4 and (one element) 0 bytes in which cells of `channels` neighbouring channels can be copied.
template <class T>
int copy_bytes(const Tensor& tensor, int channels) {
  for (int bytes : {16, 4}) {
    bool fits = reinterpret_cast<uintptr_t>(tensor.data_ptr()) % bytes == 0 && channels * sizeof(T) % bytes == 0;
    for (int i = 0; i < tensor.dim(); ++i)
      fits = fits && (i == 1 || tensor.size(i) == 1 || tensor.stride(i) * sizeof(T) % bytes == 0);
    if (fits) return bytes;
  }
  return 0;
}

inline Tensor empty(const Tensor& like, std::array<int64_t, 4> size, bool channels_last, ScalarType dtype) {
  const auto format =
      channels_last ? torch::headeronly::MemoryFormat::ChannelsLast : torch::headeronly::MemoryFormat::Contiguous;
  return torch::stable::empty(size, dtype, std::nullopt, like.device(), std::nullopt, format);
}
// As `empty_like_format` of zfkernels/ops/_allocation.py.
inline Tensor empty_like_format(const Tensor& like, std::array<int64_t, 4> size, ScalarType dtype) {
  return empty(like, size, gives_channels_last(like), dtype);
}
inline Tensor buffer(const Tensor& like, int64_t count, ScalarType dtype) {
  return torch::stable::empty(std::array<int64_t, 1>{count}, dtype, std::nullopt, like.device());
}

// Calls run(T{}) for the kernels' type of the tensor's dtype.
template <class Run>
void for_dtype(const Tensor& tensor, const Run& run) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return run(float{});
    case ScalarType::Half:
      return run(Half{});
    case ScalarType::BFloat16:
      return run(BFloat16{});
    default:
      STD_TORCH_CHECK(false, "expected float32, float16 or bfloat16");
  }
}

}  // namespace zfkernels::cuda
