// A pooling window that covers an unpooled cell.
#pragma once

#include <cstdint>

namespace zfkernels::cpu {

template <class T>
struct Cover {
  const T* values;       // of the window, all channels
  const uint8_t* codes;  // its switches
  int code;              // the switch that names the cell
};

}  // namespace zfkernels::cpu
