// Geometry of convolutions and poolings.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <array>
#include <cstdint>
#include <vector>

namespace zfkernels::cpu {

using Ints = std::vector<int64_t>;    // the ops' int[2] arguments
using Pair = std::array<int64_t, 2>;  // (rows, columns)

inline Pair pair(const Ints& ints) {
  STD_TORCH_CHECK(ints.size() == 2, "expected pairs of ints");
  return {ints[0], ints[1]};
}

inline int64_t floor_div(int64_t a, int64_t b) {
  return a / b - (a % b != 0 && a < 0);
}
inline int64_t ceil_div(int64_t a, int64_t b) {
  return -floor_div(-a, b);
}
inline int64_t floor_mod(int64_t a, int64_t b) {
  return a - floor_div(a, b) * b;
}
inline int64_t round_up(int64_t a, int64_t b) {
  return ceil_div(a, b) * b;
}

struct Sliding {
  Pair kernel, stride, padding, dilation;

  int64_t extent(int axis) const { return (kernel[axis] - 1) * dilation[axis] + 1; }
  // Cells from the first to the last that `count` neighbouring windows see.
  int64_t span(int axis, int64_t count) const { return (count - 1) * stride[axis] + extent(axis); }
};

inline Sliding sliding(const Pair& kernel, const Ints& stride, const Ints& padding, const Ints& dilation) {
  return {kernel, pair(stride), pair(padding), pair(dilation)};
}

}  // namespace zfkernels::cpu
