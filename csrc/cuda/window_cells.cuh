// Where the cells of windows lie: each window is a box of a layer, its cells stand row by row behind those of
// the window before it. A cell of the layer is in a window, in the frame around it, or nowhere.
#pragma once

#include "geometry.cuh"

namespace zfkernels::cuda {

// a / b of numbers that are not negative: the device divides 32 bits at a tenth of the price of 64.
__device__ __forceinline__ int64_t quotient(int64_t a, int b) {
  return a <= UINT32_MAX ? int64_t(uint32_t(a) / uint32_t(b)) : a / b;
}

// Windows one after the other.
struct Places {
  const int32_t* boxes;    // [P, 4]
  const int64_t* offsets;  // [P + 1]
  int count;               // P
  int64_t cells;           // of all

  __device__ __forceinline__ Box box(int p) const {
    const int32_t* const at = boxes + int64_t(p) * 4;
    return {at[0], at[1], at[2], at[3]};
  }
  // The number of the first cell of window p, all of whose cells exist.
  __device__ __forceinline__ int64_t first(int p, const Box& box) const {
    const int64_t first = offsets[p];
    require(box.height >= 0 && box.width >= 0 && first >= 0 && first + int64_t(box.height) * box.width <= cells);
    return first;
  }
};

// A cell of a layer, and the window that it belongs to.
struct Cell {
  int window, y, x;
};

// The cells that an op makes.
struct Outputs {
  Places at;
  const int32_t* owner;  // [cells], the window of each

  __device__ __forceinline__ Cell cell(int64_t i) const {
    const int p = owner[i];
    require(unsigned(p) < unsigned(at.count));
    const Box box = at.box(p);
    const int64_t within = i - at.offsets[p];
    require(within >= 0 && box.width > 0);
    const int row = int(quotient(within, box.width));
    return {p, box.top + row, box.left + int(within - int64_t(row) * box.width)};
  }
};

// Values of windows.
template <class T>
struct Source {
  const T* values;  // [cells, C], channels side by side
  int64_t stride;   // from a cell to the next
  Places at;
};

// Window p of a source, ready to be asked for cells.
template <class T>
struct Window {
  Box box;
  const T* values;  // of its first cell

  __device__ __forceinline__ static Window of(const Source<T>& source, int p) {
    const Box box = source.at.box(p);
    return {box, source.values + source.at.first(p, box) * source.stride};
  }
  // The cell (y, x) of the layer, null where the window does not have it.
  __device__ __forceinline__ const T* find(int y, int x, int64_t stride) const {
    return box.has(y, x) ? values + (int64_t(y - box.top) * box.width + (x - box.left)) * stride : nullptr;
  }
};

// The layer around windows.
template <class T>
struct Frames {
  const T* data;         // [N, C, H, W], channels side by side; null: zeros
  int64_t stride[3];     // of N, rows, columns
  const int64_t* image;  // [P]
  int count;             // N
  Pair size;

  __device__ __forceinline__ const T* of(int p) const {
    if (!data) return nullptr;
    const int64_t n = image[p];
    require(n >= 0 && n < count);
    return data + n * stride[0];
  }
  __device__ __forceinline__ bool has(int y, int x) const {
    return unsigned(y) < unsigned(size.rows) && unsigned(x) < unsigned(size.columns);
  }
};

// What an output of a sliding layer reads.
template <class T>
struct Reads {
  Window<T> window;
  const T* frame;   // of its image, null: zeros
  int row, column;  // of the first cell, possibly in the padding
};

// The inputs of a layer on windows, and the outputs that it makes of them.
template <class T>
struct WindowCells {
  Source<T> source;
  Frames<T> frames;
  Outputs out;
  int channels;

  __device__ __forceinline__ Reads<T> reads(int64_t output, const Sliding& layer) const {
    const Cell cell = out.cell(output);
    return {Window<T>::of(source, cell.window), frames.of(cell.window), layer.rows.start(cell.y),
            layer.columns.start(cell.x)};
  }

  // The cell (y, x) of the layer, null where it is zero: outside of the frame, or of the window where no frame is.
  __device__ __forceinline__ const T* find(const Reads<T>& reads, int y, int x) const {
    if (!frames.has(y, x)) return nullptr;
    const T* const own = reads.window.find(y, x, source.stride);
    if (own || !reads.frame) return own;
    return reads.frame + y * frames.stride[1] + x * frames.stride[2];
  }
};

}  // namespace zfkernels::cuda
