// Ragged windows in tiles, one for a block, without anything that the host does not know: its boxes stay on the device.
//
// A window of h x w cells in tiles of a x b has ceil(h / a) * ceil(w / b) of them, at most 1 + h * w / min(a, b). So
// the first blocks, one for each window, take first tiles; then a block for each min(a, b) cells of all windows, which
// takes a further tile of the window that owns the first of them, if it has so many.
#pragma once

#include <cmath>

#include "window_cells.cuh"

namespace zfkernels::cuda {

// Of outputs.
struct Tile {
  int window;       // that it belongs to
  Pair size;        // no rows: there is no such tile
  int row, column;  // of its first cell in the layer
  int64_t first;    // the number of that cell
  int pitch;        // cells from one row to the next: the width of the window

  __device__ __forceinline__ bool exists() const { return size.rows > 0; }
};

// Block `number` of those that most_tiles counts for `most`, the largest tile. A window's tiles are as even as can be.
__device__ __forceinline__ Tile tile_of(const Outputs& out, int64_t number, const Pair& most) {
  int p = int(number);
  int64_t tile = 0;
  if (number >= out.at.count) {
    const int apart = smaller(most.rows, most.columns);
    const int64_t other = number - out.at.count;
    p = out.owner[other * apart];
    require(unsigned(p) < unsigned(out.at.count));
    tile = 1 + other - quotient(out.at.offsets[p] + apart - 1, apart);
  }
  const Box box = out.at.box(p);
  if (box.height <= 0 || box.width <= 0) return {p, {0, 0}, 0, 0, 0, 0};
  const int64_t first = out.at.first(p, box);
  const int rows = ceil_div(box.height, most.rows), columns = ceil_div(box.width, most.columns);
  const int row = int(quotient(tile, columns)), column = int(tile - int64_t(row) * columns);
  if (row >= rows) return {p, {0, 0}, 0, 0, 0, 0};
  const Pair size{ceil_div(box.height, rows), ceil_div(box.width, columns)};
  const int y = row * size.rows, x = column * size.columns;
  if (y >= box.height || x >= box.width) return {p, {0, 0}, 0, 0, 0, 0};
  return {p,
          {smaller(size.rows, box.height - y), smaller(size.columns, box.width - x)},
          box.top + y,
          box.left + x,
          first + int64_t(y) * box.width + x,
          box.width};
}

// How many blocks all tiles take whose shorter side is `side`.
inline int64_t most_tiles(const Places& at, int side) {
  return at.count + ceil_div<int64_t>(at.cells, side);
}

// The sides of square windows that have as many cells on the average.
inline int mean_side(const Places& at) {
  return int(std::ceil(std::sqrt(double(at.cells) / double(at.count))));
}

}  // namespace zfkernels::cuda
