// What the loops of unpool_relu_conv_transpose2d work on: one stage of a DeconvNet, cut into tiles.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cover.h"
#include "geometry.h"
#include "parallel.h"

namespace zfkernels::cpu::deconv {

// Half-open.
struct Range {
  int64_t lo, hi;
  int64_t size() const { return hi > lo ? hi - lo : 0; }
  bool holds(int64_t i) const { return i >= lo && i < hi; }
  Range operator&(Range other) const { return {lo > other.lo ? lo : other.lo, hi < other.hi ? hi : other.hi}; }
};
using Ranges = std::array<Range, 2>;  // (rows, columns)

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
    const int64_t row_bytes = pool.columns.span(columns) * kLine * element_bytes;
    const int64_t rows = (kSlabBytes / row_bytes - pool.rows.extent()) / pool.rows.stride + 1;
    return rows > 1 ? rows : 1;
  }
  static constexpr int64_t kSlabBytes = int64_t(64) << 10;

  // How many rows of a flat tile's sums, margins included, are in memory at a time. All of them if the filters of all
  // channels do not make one block: rows are then finished by the last block only.
  int64_t held_rows(int64_t rows, int64_t block_channels) const {
    const int64_t all = rows + 2 * (conv.rows.extent() - 1), few = conv.rows.extent() + kHeldRows;
    return channels > block_channels || all < few ? all : few;
  }
  static constexpr int64_t kHeldRows = 16;
};

// One group of channels of one image or window. Cells are counted in their whole map.
template <class T>
struct Unit {
  const T* values;          // of the first cell of the crop
  const uint8_t* switches;  // of pooled cell (0, 0)
  Ranges crop;              // pooled cells that have values; those around it are zero
  Ranges pooled;            // pooled cells that count: with overlap "last" a zero counts too
  Ranges unpooled;          // unpooled cells that exist
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
  // Of a block; a line of memory apart, so that the taps of a channel do not compete for one place in the caches.
  int64_t tap_size() const { return block_channels * width() + 64 / int64_t(sizeof(T)); }
  Range pass(int64_t b) const { return {b * vectors / blocks, (b + 1) * vectors / blocks}; }
};

// Channels of a block, a bit each.
using ChannelSet = std::array<uint64_t, 2>;

// Where a tile keeps the sums of a unit: [phase, phase, row, column], so that what the taps of one phase of the stride
// write is in one piece. The output at y is in row (y + shift) / stride of phase (y + shift) % stride, with a shift
// below the stride that is the unit's. Where that would be mostly rows without outputs, there is one plane of stride 1.
struct Planes {
  Pair stride, step;  // step: from an unpooled cell to the next, in a plane
  int64_t rows, columns;

  int64_t all() const { return stride[0] * stride[1] * rows * columns; }
  int64_t at(int64_t phase_y, int64_t phase_x) const { return (phase_y * stride[1] + phase_x) * rows * columns; }
};

inline Planes planes_of(const Stage& stage, int64_t rows) {
  const Sliding& conv = stage.conv;
  const Pair outputs{rows, stage.out_size[1]};
  Planes planes{};
  Pair count{};
  for (int axis : {0, 1}) {
    const bool apart = conv[axis].stride <= conv[axis].kernel && 4 * conv[axis].stride <= outputs[axis];
    planes.stride[axis] = apart ? conv[axis].stride : 1;
    planes.step[axis] = conv[axis].stride / planes.stride[axis];
    count[axis] = (outputs[axis] + planes.stride[axis] - 2) / planes.stride[axis] + 1;
  }
  planes.rows = count[0];
  planes.columns = count[1];
  return planes;
}

// A tap of the filters, of one block of channels.
struct Tap {
  int64_t channel_block;
  int64_t filters;      // from those of the block of outputs
  int64_t plane;        // the first sum of its phase
  int32_t down, right;  // in the plane
};

// All of a block of outputs, one phase of the stride after the other: its sums stay in the second cache meanwhile.
inline std::vector<Tap> taps_of(const Stage& stage, const Planes& planes, int64_t channel_blocks, int64_t tap_size) {
  const Sliding& conv = stage.conv;
  std::vector<Tap> taps;
  for (int64_t py = 0; py < conv.rows.stride && py < conv.rows.kernel; ++py)
    for (int64_t px = 0; px < conv.columns.stride && px < conv.columns.kernel; ++px)
      for (int64_t c = 0; c < channel_blocks; ++c)
        for (int64_t ky = py; ky < conv.rows.kernel; ky += conv.rows.stride)
          for (int64_t kx = px; kx < conv.columns.kernel; kx += conv.columns.stride) {
            const int64_t y = ky * conv.rows.dilation, x = kx * conv.columns.dilation;
            taps.push_back({c, ((c * conv.rows.kernel + ky) * conv.columns.kernel + kx) * tap_size,
                            planes.at(y % planes.stride[0], x % planes.stride[1]), int32_t(y / planes.stride[0]),
                            int32_t(x / planes.stride[1])});
          }
  return taps;
}

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
  int32_t row, column;  // of the sum under a tap that is not down or right of it, in its plane; may lie outside it
  int32_t unit;         // in the tile
  int32_t count;
  int64_t first;
};

// Memory of one worker, for tiles of one size.
template <class T>
struct Scratch {
  int64_t half;                              // of a line of channels in the slab, in elements; see unpool
  Buffer<T> slab, sums, values, masks, row;  // masks: of flat filters, a lane each; row: of outputs
  Buffer<int32_t> channels;
  Buffer<Cell> cells;          // of a blocked tile
  Buffer<ChannelSet> nonzero;  // of a row's cells
};

// The loops of one instruction set: unpool_relu_conv_transpose2d_loops.h.
template <class T>
struct StageLoops {
  int64_t lanes;              // of a vector
  int64_t footprint_vectors;  // of a footprint, that a pass may have
  // Of rows x columns numbers: to[j * to_stride + i] = from[i * from_stride + j].
  void (*transpose)(const T* from, int64_t from_stride, int64_t rows, int64_t columns, T* to, int64_t to_stride);
  void (*run_flat_tile)(const Stage& stage, const Filters<T>& filters, const Unit<T>* units, const Tile& tile,
                        const Scratch<T>& scratch);
  void (*run_blocked_tile)(const Stage& stage, const Filters<T>& filters, const Unit<T>* units, const Tile& tile,
                           const Scratch<T>& scratch);
};

}  // namespace zfkernels::cpu::deconv
