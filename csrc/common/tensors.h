// What ops on any device ask of tensors, on LibTorch's stable ABI: memory formats, pairs of ints as geometry, and the
// checks that guard memory.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "geometry.h"

namespace zfkernels {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Ints = std::vector<int64_t>;  // the ops' int[2] arguments

template <class I>
I to_size(int64_t value) {
  STD_TORCH_CHECK(value >= 0 && value <= std::numeric_limits<I>::max(), "expected a size of at most ",
                  std::numeric_limits<I>::max(), ", got ", value);
  return I(value);
}
template <class I>
PairOf<I> to_pair(const Ints& ints) {
  STD_TORCH_CHECK(ints.size() == 2, "expected pairs of ints");
  return {to_size<I>(ints[0]), to_size<I>(ints[1])};
}
template <class I>
SlidingOf<I> to_sliding(const PairOf<I>& kernel, const Ints& stride, const Ints& padding, const Ints& dilation) {
  const PairOf<I> s = to_pair<I>(stride), p = to_pair<I>(padding), d = to_pair<I>(dilation);
  return {{kernel.rows, s.rows, p.rows, d.rows}, {kernel.columns, s.columns, p.columns, d.columns}};
}
// Rows and columns of [N, C, H, W].
template <class I>
PairOf<I> size_of(const Tensor& tensor) {
  return {to_size<I>(tensor.size(2)), to_size<I>(tensor.size(3))};
}

// Whether the channels of a pixel are neighbours in memory, then the pixels, row by row.
inline bool is_channels_last(const Tensor& tensor) {
  int64_t expected = 1;
  for (int i : {1, 3, 2, 0}) {
    if (tensor.size(i) != 1 && tensor.stride(i) != expected) return false;
    expected *= tensor.size(i);
  }
  return true;
}
// Whether results of an op on `tensor` are channels last: as `empty_like_format` of zfkernels/ops/_allocation.py.
inline bool gives_channels_last(const Tensor& tensor) {
  return !tensor.is_contiguous() && is_channels_last(tensor);
}

inline Tensor channels_last(const Tensor& tensor) {
  return torch::stable::contiguous(tensor, torch::headeronly::MemoryFormat::ChannelsLast);
}
inline std::optional<Tensor> contiguous(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(torch::stable::contiguous(*tensor)) : std::nullopt;
}
// The tensor itself if the channels of a cell are neighbours in memory, else a copy.
inline Tensor with_contiguous_cells(const Tensor& tensor) {
  if (tensor.size(1) <= 1 || tensor.stride(1) == 1) return tensor;
  return tensor.dim() == 2 ? torch::stable::contiguous(tensor) : channels_last(tensor);
}
inline std::optional<Tensor> with_contiguous_cells(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(with_contiguous_cells(*tensor)) : std::nullopt;
}

inline void check_dtype(const Tensor& tensor, ScalarType dtype, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, "expected ", name, " of another dtype");
}

// Of a convolution of `channels` channels.
inline void check_conv2d(const Tensor& weight, const std::optional<Tensor>& bias, int64_t channels, int64_t groups) {
  STD_TORCH_CHECK(
      groups > 0 && weight.dim() == 4 && weight.size(0) % groups == 0 && weight.size(1) * groups == channels,
      "expected weight [C_out, C / groups, kh, kw], got other channels");
  STD_TORCH_CHECK(!bias || bias->numel() == weight.size(0), "expected bias [C_out]");
}
// Of the transpose of a convolution that made `channels` channels.
inline void check_conv_transpose2d(const Tensor& weight, int64_t channels, int64_t groups) {
  STD_TORCH_CHECK(groups > 0 && weight.dim() == 4 && weight.size(0) == channels && channels % groups == 0,
                  "expected weight [C, C_in / groups, kh, kw], got other channels");
}

}  // namespace zfkernels
