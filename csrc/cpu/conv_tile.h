// A tile of a convolution: kTileRows outputs by a panel of output channels.
//
//   out[j, o] = sum over taps t and channels c of cells[rows[j] + taps[t]][c] * panel[t * channels + c][o]
//
// The cells are found through a table of pointers (an indirect matrix product): no region is gathered or padded in
// memory, and the outputs of a tile may lie anywhere, in several windows too. Accumulators stay in registers from the
// first tap to the last.
//
// Versions tried, as outputs x vectors of 16 channels; GFLOP/s of useful work on one core whose peak is 113, in 20
// windows of 20x20 with 64 channels, 12x12 with 128, 9x9 with 256 and 12 of 7x7 with 512 (3x3, as many channels out):
//   6x4: 110, 110, 108, 100 (kept)   8x2: 102, 109, 101, 100   10x2: 98, 100, 95, 109   12x2: 92, 101, 103, 91
//   14x2: 98, 104, 109, 98           8x3: 71, 95, 89, 92
#pragma once

#include <algorithm>
#include <cstdint>

namespace zfkernels::cpu {

inline constexpr int kTileRows = 6;

template <class T>
struct Tile {
  const T* const* cells;  // table of cells, each [..., channels, ...]
  const int32_t* rows;    // [kTileRows] place in the table of the first cell of each output
  const int32_t* taps;    // [tap_count] distance in the table from the first cell to each tap
  int64_t tap_count;
  int64_t channel;   // the first channel that is read of each cell
  int64_t channels;  // and how many
  const T* panel;    // [tap_count * channels, vectors * lanes] packed weights, zeros beyond the last output channel
  const T* bias;     // [width], or null
  T* out;            // [row_count, out_stride]
  int64_t out_stride;
  int64_t row_count;  // outputs that are written, at most kTileRows
  int64_t width;      // channels that are written
  bool accumulate;    // add to what `out` holds
  bool relu;
};

// The loops of one instruction set: conv_tile_loops.h. `vectors`: of the tile's panel.
template <class T>
struct TileLoops {
  int64_t lanes;         // of a vector
  int64_t most_vectors;  // of a panel
  void (*multiply)(const Tile<T>& tile, int64_t vectors);
  // Of a depthwise convolution: each output channel reads one channel, its own. The panel is [tap_count, vectors *
  // lanes], of any number of vectors.
  void (*multiply_depthwise)(const Tile<T>& tile, int64_t vectors);
};

}  // namespace zfkernels::cpu
