// Windows in tiles, without anything that the host does not know: their boxes stay on the device.
//
// With A the cells of the largest tile there are blocks for each window, and for each A-th cell of all windows, which
// belong to the window that owns it. A window's blocks take its tiles in turn: as a rule one each. Only thin windows
// have more tiles than blocks.
#pragma once

#include <cmath>

#include "window_cells.cuh"

namespace zfkernels::cuda {

// Of outputs.
struct WindowTile {
  int window;       // that it belongs to
  Pair size;        // no rows: there is no such tile
  int row, column;  // of its first cell in the layer
  int64_t first;    // the number of that cell
  int pitch;        // cells from one row to the next: the width of the window

  __device__ __forceinline__ bool exists() const { return size.rows > 0; }
};

// The tiles of one block.
struct TileWalk {
  int window;
  int64_t tile, step;  // number of the next one, and how many the window's blocks take at a time

  // Of block `number` of blocks_of_tiles. `most`: the largest tile.
  __device__ __forceinline__ static TileWalk of(const Outputs& out, int64_t number, const Pair& most) {
    TileWalk walk{int(number), 0, 1};
    const int64_t apart = most.area(), other = number - out.at.count;
    if (other >= 0) {
      if (other * apart >= out.at.cells) return {-1, 0, 1};
      walk.window = out.owner[other * apart];
      require(unsigned(walk.window) < unsigned(out.at.count));
    }
    const int64_t first = ceil_div(out.at.offsets[walk.window], apart);
    if (other >= 0) walk.tile = 1 + other - first;
    walk.step = 1 + ceil_div(out.at.offsets[walk.window + 1], apart) - first;
    require(walk.tile >= 0 && walk.step >= 1);
    return walk;
  }

  // The next tile. A window's tiles are as even as can be.
  __device__ __forceinline__ WindowTile next(const Outputs& out, const Pair& most) {
    const WindowTile none{window, {0, 0}, 0, 0, 0, 0};
    if (window < 0) return none;
    const Box box = out.at.box(window);
    const int64_t first = out.at.first(window, box);
    if (box.height == 0 || box.width == 0) return none;
    const Pair size{ceil_div(box.height, ceil_div(box.height, most.rows)),
                    ceil_div(box.width, ceil_div(box.width, most.columns))};
    const int columns = ceil_div(box.width, size.columns);
    const int64_t row = quotient(tile, columns);
    const int64_t y = row * size.rows, x = (tile - row * columns) * size.columns;
    tile += step;
    if (y >= box.height) return none;
    return {window,
            {smaller(size.rows, box.height - int(y)), smaller(size.columns, box.width - int(x))},
            box.top + int(y),
            box.left + int(x),
            first + y * box.width + x,
            box.width};
  }
};

// How many blocks there are for tiles of at most `area` cells.
inline int64_t blocks_of_tiles(const Places& at, int area) {
  return at.count + ceil_div<int64_t>(at.cells, area);
}

// The side of a square with room for most windows, were they square and much the same.
inline int usual_side(const Places& at) {
  const int side = int(std::ceil(std::sqrt(double(at.cells) / double(at.count))));
  return int64_t(side) * side * at.count == at.cells ? side : side + 1;
}

}  // namespace zfkernels::cuda
