// The pooling windows that cover an unpooled cell.
#pragma once

#include <algorithm>
#include <cstdint>

#include "sliding.h"

namespace zfkernels::cpu {

// Calls body(window, tap) for those windows [first, last) of an axis that cover a cell, from the first to the last.
template <class Body>
void for_covering(const Sliding& layer, int axis, int64_t cell, int64_t first, int64_t last, const Body& body) {
  const int64_t at = cell + layer.padding[axis], stride = layer.stride[axis], step = layer.dilation[axis];
  first = std::max(first, ceil_div(at - layer.extent(axis) + 1, stride));
  last = std::min(last, floor_div(at, stride) + 1);
  for (int64_t window = first; window < last; ++window)
    if ((at - window * stride) % step == 0) body(window, (at - window * stride) / step);
}

template <class T>
struct Cover {
  const T* values;       // of the window, all channels
  const uint8_t* codes;  // its switches
  int code;              // the switch that names the cell
};

}  // namespace zfkernels::cpu
