// Where the cells of a layer on windows lie: in a window, in the frame around it, or nowhere.
#pragma once

#include "geometry.cuh"

namespace zfkernels::cuda {

// Window p, ready to be asked for cells.
template <class T>
struct Place {
  int row, column;          // of the window's first cell, in the frame
  int out_row, out_column;  // of its first output
  const T *window, *frame;  // cells (0, 0)

  // The first cell, possibly in the padding, that an output of the window reads.
  __device__ int read_row(int y, const Axis& axis) const { return (out_row + y) * axis.stride - axis.padding; }
  __device__ int read_column(int x, const Axis& axis) const { return (out_column + x) * axis.stride - axis.padding; }
};

template <class T>
struct WindowCells {
  const T *values, *frames;                  // [P, C, h, w], [N, C, H, W], channels side by side
  int64_t value_stride[3], frame_stride[3];  // of P or N, rows, columns
  const int32_t *origins, *out_origins;      // [P, 2]
  const int64_t* image;                      // [P]
  int windows, images, channels;
  Pair size, frame;

  __device__ __forceinline__ Place<T> place(int p) const {
    const int64_t n = image[p];
    require(n >= 0 && n < images);
    return {origins[2 * p],         origins[2 * p + 1],           out_origins[2 * p],
            out_origins[2 * p + 1], values + p * value_stride[0], frames + n * frame_stride[0]};
  }

  // The cell (y, x) of the frame, null outside of it.
  __device__ __forceinline__ const T* find(const Place<T>& place, int y, int x) const {
    if (unsigned(y) >= unsigned(frame.rows) || unsigned(x) >= unsigned(frame.columns)) return nullptr;
    const int row = y - place.row, column = x - place.column;
    if (unsigned(row) < unsigned(size.rows) && unsigned(column) < unsigned(size.columns))
      return place.window + row * value_stride[1] + column * value_stride[2];
    return place.frame + y * frame_stride[1] + x * frame_stride[2];
  }
};

}  // namespace zfkernels::cuda
