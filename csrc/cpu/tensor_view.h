// What the CPU's kernels need of tensors: typed views by strides, and memory for results.
#pragma once

#include <torch/headeronly/util/shim_utils.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "../common/tensors.h"
#include "geometry.h"

namespace zfkernels::cpu {

// A 4-dimensional tensor [N, C, H, W] of any strides (in elements).
template <class T>
struct View {
  T* data = nullptr;
  std::array<int64_t, 4> size{}, stride{};

  T* at(int64_t n, int64_t c, int64_t y, int64_t x) const {
    return data + n * stride[0] + c * stride[1] + y * stride[2] + x * stride[3];
  }
};

template <class T, class Access>
View<T> view_of(const Tensor& tensor, Access access) {
  STD_TORCH_CHECK(tensor.dim() == 4, "expected a tensor of 4 dimensions, got ", tensor.dim());
  View<T> view;
  view.data = access();
  for (int i = 0; i < 4; ++i) view.size[i] = tensor.size(i), view.stride[i] = tensor.stride(i);
  return view;
}

template <class T>
View<const T> read(const Tensor& tensor) {
  return view_of<const T>(tensor, [&] { return tensor.const_data_ptr<T>(); });
}

template <class T>
View<T> write(const Tensor& tensor) {
  return view_of<T>(tensor, [&] { return tensor.mutable_data_ptr<T>(); });
}

// Asks for huge pages under memory that is about to be written for the first time: mapping it page by page costs
// several times more than the writing itself. A hint: where the system has none, nothing changes.
inline void prefer_huge_pages(void* data, int64_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kHuge = uintptr_t(1) << 21;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + kHuge - 1) & ~(kHuge - 1);
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + bytes) & ~(kHuge - 1);
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Not by way of the dispatcher, whose walk costs as much as pooling a small map.
template <size_t kDims>
Tensor empty(std::array<int64_t, kDims> size, std::array<int, kDims> inner_first, ScalarType dtype) {
  std::array<int64_t, kDims> stride{};
  int64_t step = 1;
  for (int i : inner_first) {
    stride[i] = step;
    step *= std::max<int64_t>(size[i], 1);
  }
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      kDims, size.data(), stride.data(), torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)),
      aoti_torch_device_type_cpu(), 0, &handle));
  const Tensor tensor(handle);
  prefer_huge_pages(tensor.data_ptr(), tensor.numel() * tensor.element_size());
  return tensor;
}
inline Tensor empty(std::array<int64_t, 4> size, bool channels_last, ScalarType dtype) {
  return empty<4>(size, channels_last ? std::array{1, 3, 2, 0} : std::array{3, 2, 1, 0}, dtype);
}

// [cells, C], the channels of a cell side by side.
inline Tensor empty_cells(int64_t cells, int64_t channels, ScalarType dtype) {
  return empty<2>({cells, channels}, {1, 0}, dtype);
}
inline Tensor empty_cells(const Tensor& like, int64_t cells, int64_t channels) {
  return empty_cells(cells, channels, like.scalar_type());
}

// As `empty_like_format` of zfkernels/ops/_allocation.py.
inline Tensor empty_like_format(const Tensor& like, std::array<int64_t, 4> size,
                                std::optional<ScalarType> dtype = std::nullopt) {
  return empty(size, gives_channels_last(like), dtype.value_or(like.scalar_type()));
}

}  // namespace zfkernels::cpu
