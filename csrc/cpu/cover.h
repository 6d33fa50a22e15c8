// The pooling windows that cover an unpooled cell.
#pragma once

#include <algorithm>
#include <cstdint>

#include "geometry.h"

namespace zfkernels::cpu {

// Calls body(window, tap) for those windows [first, last) of an axis that cover a cell, from the first to the last.
template <class Body>
void for_covering(const Axis& axis, int64_t cell, int64_t first, int64_t last, const Body& body) {
  first = std::max(first, axis.first_over(cell));
  last = std::min(last, axis.last_over(cell) + 1);
  for (int64_t window = first; window < last; ++window) {
    const int64_t distance = cell - axis.start(window);
    if (distance % axis.dilation == 0) body(window, distance / axis.dilation);
  }
}

template <class T>
struct Cover {
  const T* values;       // of the window, all channels
  const uint8_t* codes;  // its switches
  int code;              // the switch that names the cell
};

}  // namespace zfkernels::cpu
