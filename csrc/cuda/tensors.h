// What launches need of tensors, on LibTorch's stable ABI: views, memory for results, one kernel per dtype.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <optional>

#include "../common/tensors.h"
#include "geometry.cuh"
#include "on_device.h"

namespace zfkernels::cuda {

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
