// The transforms of Winograd's F(2 x 2, 3 x 3), see winograd_conv2d.h.
#pragma once

#include <cstdint>

namespace zfkernels::cpu {

// Those of one instruction set: winograd_loops.h.
template <class T>
struct WinogradTransforms {
  // to[16, plane]: of the 4 x 4 cells that cells[16] point to, `channels` of each.
  void (*of_cells)(const T* const* cells, int64_t channels, T* to, int64_t plane);
  // to[16, plane]: of 3 x 3 taps[9, lanes] of as many filters as a vector has lanes.
  void (*of_taps)(const T* taps, T* to, int64_t plane);
  // The 2 x 2 outputs of the sums [16, plane]: `width` channels of each, where out[4] is not null.
  void (*of_sums)(const T* sums, int64_t plane, int64_t width, const T* bias, bool relu, T* const* out);
};

}  // namespace zfkernels::cpu
