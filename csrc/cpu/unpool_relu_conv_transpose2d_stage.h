// What the loops of unpool_relu_conv_transpose2d work on: one stage of a DeconvNet, cut into tiles.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cover.h"
#include "parallel.h"
#include "sliding.h"

namespace zfkernels::cpu::deconv {

// Half-open.
struct Range {
  int64_t lo, hi;
  int64_t size() const { return hi > lo ? hi - lo : 0; }
  bool holds(int64_t i) const { return i >= lo && i < hi; }
  Range operator&(Range other) const { return {lo > other.lo ? lo : other.lo, hi < other.hi ? hi : other.hi}; }
};
using Box = std::array<Range, 2>;  // (rows, columns)

struct Stage {
  Sliding pool, conv;
  int64_t channels, outputs;  // of one group
  bool sum, rectify;
  Pair out_size;
  std::array<int64_t, 3> value_stride, switch_stride, out_stride;  // channel, row, column

  static constexpr int64_t kLine = 16;  // channels are unpooled in lines of this many

  // Whether channels are neighbours in memory, so that a cell is best gathered from its pooling windows.
  bool gathers() const { return value_stride[0] == 1 && switch_stride[0] == 1; }

  // How many rows of `columns` pooled cells are unpooled at a time: a line of channels stays in the first cache.
  int64_t pooled_rows(int64_t columns, int64_t element_bytes) const {
    const int64_t row_bytes = pool.span(1, columns) * kLine * element_bytes;
    const int64_t rows = (kSlabBytes / row_bytes - pool.extent(0)) / pool.stride[0] + 1;
    return rows > 1 ? rows : 1;
  }
  static constexpr int64_t kSlabBytes = int64_t(64) << 10;

  // How many rows of a flat tile's sums, margins included, are in memory at a time. All of them if the filters of all
  // channels do not make one block: rows are then finished by the last block only.
  int64_t held_rows(int64_t rows, int64_t block_channels) const {
    const int64_t all = rows + 2 * (conv.extent(0) - 1), few = conv.extent(0) + kHeldRows;
    return channels > block_channels || all < few ? all : few;
  }
  static constexpr int64_t kHeldRows = 16;
};

// One group of channels of one image or window. Cells are counted in their whole map.
template <class T>
struct Unit {
  const T* values;          // of pooled cell (0, 0), which may lie outside a window
  const uint8_t* switches;  // of pooled cell (0, 0)
  Box crop;                 // pooled cells that have values; those around it are zero
  Box pooled;               // pooled cells that count: with overlap "last" a zero counts too
  Box unpooled;             // unpooled cells that exist
  Pair origin;              // of the output, in its map
  T* out;
};

// Outputs of consecutive units: all their columns, some rows, some blocks of channels.
struct Tile {
  Range units, rows, blocks;
};

// The filters, packed so that what one nonzero cell is multiplied by lies in one piece. Two ways:
//   flat: [pass][channel][ky][kx, output], rows padded to vectors: few outputs, all taps at once, some vectors a pass;
//   else: [block of outputs][block of channels][ky, kx][channel][output], a block of outputs being `vectors` vectors.
template <class T>
struct Filters {
  bool flat;
  int64_t lanes;           // outputs in a vector
  int64_t vectors;         // held in registers at a time (flat: of all taps)
  int64_t blocks;          // of outputs (flat: passes)
  int64_t block_channels;  // a multiple of Stage::kLine
  T* data;                 // of the group

  static constexpr int64_t kMostChannels = 128;  // of a block; a ChannelSet holds them
  int64_t width() const { return vectors * lanes; }
  Range pass(int64_t b) const { return {b * vectors / blocks, (b + 1) * vectors / blocks}; }
};

// Channels of a block, a bit each.
using ChannelSet = std::array<uint64_t, 2>;

// A finished row of unpooled cells, in lines of kLine channels.
template <class T>
struct Row {
  int64_t y;
  Range xs;
  const T* cells;  // of xs.lo
  int64_t cell_stride, line_stride;
  const ChannelSet* nonzero;  // of each cell the channels to be filtered; null: not known yet
};

// A nonempty list of nonzero channels of one unpooled cell: values and channels.
struct Cell {
  int32_t row, column;  // of the output under the first tap, in the tile; may lie outside it
  int32_t unit;         // in the tile
  int32_t count;
  int64_t first;
};

// Memory of one worker, for tiles of one size.
template <class T>
struct Scratch {
  int64_t half;                         // of a line of channels in the slab, in elements; see unpool
  Buffer<T> slab, sums, values, masks;  // masks: of flat filters, a lane each
  Buffer<int32_t> channels;
  Buffer<Cell> cells;          // of a blocked tile
  Buffer<ChannelSet> nonzero;  // of a row's cells
};

}  // namespace zfkernels::cpu::deconv
