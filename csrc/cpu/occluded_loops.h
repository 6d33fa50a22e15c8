// The loops of occluded_conv2d beside those of conv_tile.h, of one instruction set: occluded_conv2d_loops.h.
#pragma once

#include <cstdint>

namespace zfkernels::cpu {

// clean, covered and sums [columns of taps, plane], of `count` channels of one output; bias [count] or null.
template <class T>
struct OccludedLoops {
  // The values of an output for every way in which a square can cover a first or a last part of its columns of taps.
  void (*sum_columns)(const T* clean, const T* covered, int64_t taps, int64_t plane, int64_t count, const T* bias,
                      bool relu, T* sums);
  // out [count]: the value of an output whose columns of taps [from, to) are covered.
  void (*sum_between)(const T* clean, const T* covered, int64_t taps, int64_t plane, int64_t from, int64_t to,
                      int64_t count, const T* bias, bool relu, T* out);
  // Copies `count` numbers to memory that is not read again soon.
  void (*copy_past_caches)(T* to, const T* from, int64_t count);
  // Before another thread may read what copy_past_caches wrote.
  void (*fence_copies)();
};

}  // namespace zfkernels::cpu
