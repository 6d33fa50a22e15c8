// The hot loops of unpool_relu_conv_transpose2d_kernel.cpp; see for_each_isa.h.
#if defined(ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_LOOPS)
#undef ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_LOOPS
#else
#define ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_LOOPS
#endif

#include "unpool_relu_conv_transpose2d_unpool_loops.h"
#include "vectors.h"

namespace zfkernels::cpu::ZFK_ISA {

// The channels of a cell that are to be filtered, as two lists: values and numbers.
template <class T>
ZFK_INLINE int64_t nonzero_channels(const T* cell, int64_t line_stride, int64_t lines, bool rectify, T* values,
                                    int32_t* channels) {
  constexpr int32_t kLine = Stage::kLine;
  int64_t kept = 0;
  for (int32_t line = 0; line < lines; ++line)
    kept += keep_nonzero(cell + line * line_stride, rectify, line * kLine, values + kept, channels + kept);
  return kept;
}

// The unpooled cells of a unit that reach the tile's outputs.
template <class T>
Ranges reaching(const Stage& stage, const Unit<T>& unit, const Range& rows) {
  Ranges box;
  for (int axis : {0, 1}) {
    const Range out = axis == 0 ? rows : Range{0, stage.out_size[1]};
    const Axis& conv = stage.conv[axis];
    const int64_t origin = unit.origin[axis];
    box[axis] = unit.unpooled[axis] & Range{conv.first_over(out.lo + origin), conv.last_over(out.hi - 1 + origin) + 1};
  }
  return box;
}

// --- multiplying ---

// sums += value * filter.
template <class T, int kVectors>
ZFK_INLINE void multiply(Vector<T> (&sums)[kVectors], T value, const T* filter) {
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) sums[v] += value * load(filter + v * kLanes<T>);
}

// One tap: adds each list of channels, times their filters, to the sums of the tap's phase, [unit][row,
// column][kVectors]. Meanwhile the filters of the tap that is likely next come from the third cache into the second,
// two lines for each list: the products would wait for them. (One line was less with a few hundred lists, three were no
// better.)
template <class T, int kVectors>
void add_tap(const Cell* cells, const Cell* end, const T* values, const int32_t* channels, const T* filters,
             const T* next_filters, int64_t tap_size, const Tap& tap, const Planes& planes, T* sums) {
  constexpr int64_t kWidth = kVectors * kLanes<T>, kMemoryLine = 64 / sizeof(T);
  const int64_t unit_size = planes.all() * kWidth;
  const T* const last_lines = next_filters + tap_size - 2 * kMemoryLine;
  sums += tap.plane * kWidth;
  for (const Cell* cell = cells; cell != end; ++cell) {
    __builtin_prefetch(next_filters, 0, 2);
    __builtin_prefetch(next_filters + kMemoryLine, 0, 2);
    next_filters = next_filters < last_lines ? next_filters + 2 * kMemoryLine : last_lines;
    const uint32_t row = cell->row + tap.down, column = cell->column + tap.right;
    if (row >= uint32_t(planes.rows) || column >= uint32_t(planes.columns)) continue;
    T* const to = sums + cell->unit * unit_size + (row * planes.columns + column) * kWidth;
    Vector<T> held[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) held[v] = load(to + v * kLanes<T>);
    for (int64_t k = cell->first; k < cell->first + cell->count; ++k)
      multiply<T, kVectors>(held, values[k], filters + channels[k] * kWidth);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(to + v * kLanes<T>, held[v]);
  }
}

// Vectors of a footprint that a pass may have: their sums stay in registers, of which there are 32 or 16.
template <class T>
constexpr int64_t footprint_vectors() {
  return ZFK_VECTOR_BYTES == 64 ? 16 : 12;
}

// Some vectors of the footprints of a row of cells: each cell's nonzero channels, times their filters, added to the
// outputs to[column * step + offset of the vector]. Lanes that belong to no tap are masked: 0 * inf must not get there.
template <class T, int kVectors>
void add_footprints(const Row<T>& row, const ChannelSet* nonzero, const T* filters, int64_t filter_stride, T* to,
                    int64_t step, const int64_t* offsets, const T* masks) {
  using Bits = Integers<T>;
  for (int64_t x = 0; x < row.xs.size(); ++x, to += step) {
    // One loop over both words, so that there is one end to foresee.
    uint64_t first = nonzero[x][0], second = nonzero[x][1];
    int64_t left = __builtin_popcountll(first) + __builtin_popcountll(second);
    if (left == 0) continue;
    Vector<T> sums[kVectors] = {};
    const T* cell = row.cells + x * row.cell_stride;
    for (; left != 0; --left) {
      const uint64_t in_second = first == 0 ? ~uint64_t(0) : 0, word = first | (second & in_second);
      const int64_t channel = __builtin_ctzll(word) | (in_second & 64);
      first &= first - 1;
      second &= second - (in_second & 1);
      multiply<T, kVectors>(sums, cell[channel / Stage::kLine * row.line_stride + channel % Stage::kLine],
                            filters + channel * filter_stride);
    }
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v)
      store(to + offsets[v], load(to + offsets[v]) + Vector<T>(Bits(sums[v]) & Bits(load(masks + v * kLanes<T>))));
  }
}

template <class T, int... kVectors>
constexpr auto add_tap_table(std::integer_sequence<int, kVectors...>) {
  return std::array{&add_tap<T, kVectors + 1>...};
}
template <class T, int... kVectors>
constexpr auto add_footprints_table(std::integer_sequence<int, kVectors...>) {
  return std::array{&add_footprints<T, kVectors + 1>...};
}

// --- tiles ---

// sums [row][column][channels] to the output, whose channels or whose columns are neighbours.
template <class T>
void write_out(const T* sums, const Pair& sums_stride, int64_t channels, T* out,
               const std::array<int64_t, 3>& out_stride, int64_t rows, int64_t columns) {
  for (int64_t y = 0; y < rows; ++y) {
    const T* from = sums + y * sums_stride[0];
    T* to = out + y * out_stride[1];
    if (out_stride[0] == 1 && out_stride[2] == channels && sums_stride[1] == channels) {  // pixels side by side in both
      std::memcpy(to, from, columns * channels * sizeof(T));
      continue;
    }
    if (out_stride[0] == 1) {
      for (int64_t x = 0; x < columns; ++x)
        std::memcpy(to + x * out_stride[2], from + x * sums_stride[1], channels * sizeof(T));
      continue;
    }
    transpose(from, sums_stride[1], columns, channels, to, out_stride[0]);
  }
}

template <class T>
void run_flat_tile(const Stage& stage, const Filters<T>& filters, const Unit<T>* units, const Tile& tile,
                   const Scratch<T>& scratch) {
  static constexpr auto kAddFootprints =
      add_footprints_table<T>(std::make_integer_sequence<int, footprint_vectors<T>()>());
  const Sliding& conv = stage.conv;
  const int64_t rows = tile.rows.size(), columns = stage.out_size[1], outputs = stage.outputs;
  // Around the outputs lies a margin, into which a cell at the border may reach.
  const int64_t top = conv.rows.extent() - 1, left = conv.columns.extent() - 1;
  const int64_t pitch = (columns + 2 * left) * outputs;
  const int64_t width = filters.width();
  // Where the vectors of a footprint go, and which of their lanes.
  const int64_t run = conv.columns.kernel * outputs, vectors_per_row = ceil_div(run, kLanes<T>);
  std::vector<int64_t> offsets(filters.vectors);
  T* masks = scratch.masks.get();
  std::memset(masks, 0, width * sizeof(T));
  for (int64_t v = 0; v < filters.vectors; ++v) {
    const int64_t first = v % vectors_per_row * kLanes<T>;
    offsets[v] = v / vectors_per_row * conv.rows.dilation * pitch + first;
    std::memset(masks + v * kLanes<T>, 0xff, (run - first < kLanes<T> ? run - first : kLanes<T>)*sizeof(T));
  }
  T* const sums = scratch.sums.get();
  const int64_t all_rows = rows + 2 * top, held = stage.held_rows(rows, filters.block_channels);
  for (int64_t u = tile.units.lo; u < tile.units.hi; ++u) {
    const Unit<T>& unit = units[u];
    std::memset(sums, 0, held * pitch * sizeof(T));
    int64_t first = 0;  // the row, counted from the margin's, that `sums` begins with
    const auto write_until = [&](int64_t row) {
      while (first < row) {
        const int64_t count = row - first < held ? row - first : held;
        const Range written = Range{first, first + count} & Range{top, top + rows};
        if (written.size() > 0)
          write_out<T>(sums + (written.lo - first) * pitch + left * outputs, {pitch, outputs}, outputs,
                       unit.out + (tile.rows.lo + written.lo - top) * stage.out_stride[1], stage.out_stride,
                       written.size(), columns);
        std::memmove(sums, sums + count * pitch, (held - count) * pitch * sizeof(T));
        std::memset(sums + (held - count) * pitch, 0, count * pitch * sizeof(T));
        first += count;
      }
    };
    for (int64_t channel = 0; channel < stage.channels; channel += filters.block_channels) {
      const int64_t rest = stage.channels - channel;
      const int64_t count = rest < filters.block_channels ? rest : filters.block_channels;
      const int64_t lines = ceil_div(count, Stage::kLine);
      unpool(stage, unit, reaching(stage, unit, tile.rows), channel, count, scratch, [&](const Row<T>& row) {
        const ChannelSet* nonzero = row.nonzero;
        if (nonzero == nullptr) {
          ChannelSet* const found = scratch.nonzero.get();
          for (int64_t x = 0; x < row.xs.size(); ++x) {
            found[x] = {};
            for (int64_t line = 0; line < lines; ++line)
              found[x][line / 4] |=
                  uint64_t(nonzero_bits(row.cells + line * row.line_stride + x * row.cell_stride, stage.rectify))
                  << line % 4 * 16;
          }
          nonzero = found;
        }
        const int64_t y = conv.rows.start(row.y) - unit.origin[0] - tile.rows.lo + top;
        if (y + conv.rows.extent() > first + held) write_until(y);
        T* to = sums + (y - first) * pitch + (conv.columns.start(row.xs.lo) - unit.origin[1] + left) * outputs;
        for (int64_t b = 0; b < filters.blocks; ++b) {
          const Range vectors = filters.pass(b);
          kAddFootprints[vectors.size() - 1](
              row, nonzero, filters.data + (stage.channels * vectors.lo + channel * vectors.size()) * kLanes<T>,
              vectors.size() * kLanes<T>, to, conv.columns.stride * outputs, offsets.data() + vectors.lo,
              masks + vectors.lo * kLanes<T>);
        }
      });
    }
    write_until(all_rows);
  }
}

// The sums of one unit, `width` of a block each, to the output; `row` is memory for one of its rows.
template <class T>
void write_planes(const Stage& stage, const Planes& planes, const Pair& shift, const T* sums, int64_t width,
                  int64_t channels, T* out, int64_t rows, T* row) {
  const int64_t columns = stage.out_size[1];
  if (planes.stride == Pair{1, 1})
    return write_out<T>(sums, {planes.columns * width, width}, channels, out, stage.out_stride, rows, columns);
  const bool beside = stage.out_stride[0] == 1;
  for (int64_t y = 0; y < rows; ++y) {
    const int64_t down = y + shift[0];
    const T* const from =
        sums + (planes.at(down % planes.stride[0], 0) + down / planes.stride[0] * planes.columns) * width;
    T* const to = out + y * stage.out_stride[1];
    int64_t phase = shift[1], column = 0;
    for (int64_t x = 0; x < columns; ++x) {
      std::memcpy(beside ? to + x * stage.out_stride[2] : row + x * width,
                  from + (planes.at(0, phase) + column) * width, channels * sizeof(T));
      if (++phase == planes.stride[1]) phase = 0, ++column;
    }
    if (!beside) write_out<T>(row, {0, width}, channels, to, stage.out_stride, 1, columns);
  }
}

template <class T>
void run_blocked_tile(const Stage& stage, const Filters<T>& filters, const Unit<T>* units, const Tile& tile,
                      const Scratch<T>& scratch) {
  static constexpr auto kAddTap = add_tap_table<T>(std::make_integer_sequence<int, 12>());
  const auto add_tap = kAddTap[filters.vectors - 1];
  const Sliding& conv = stage.conv;
  const int64_t rows = tile.rows.size(), width = filters.width();
  const int64_t channel_blocks = ceil_div(stage.channels, filters.block_channels);
  const Planes planes = planes_of(stage, rows);
  const int64_t unit_size = planes.all() * width;
  const auto first_output = [&](const Unit<T>& unit, int axis) {  // how far from where the first tap of cell 0 writes
    return conv[axis].padding + unit.origin[axis] + (axis == 0 ? tile.rows.lo : 0);
  };
  std::vector<int64_t> ends{0};  // of each channel block's cells
  int64_t cells_made = 0, kept = 0;
  for (int64_t channel = 0; channel < stage.channels; channel += filters.block_channels) {
    const int64_t rest = stage.channels - channel;
    const int64_t count = rest < filters.block_channels ? rest : filters.block_channels;
    const int64_t lines = ceil_div(count, Stage::kLine);
    for (int64_t u = tile.units.lo; u < tile.units.hi; ++u) {
      const Unit<T>& unit = units[u];
      unpool(stage, unit, reaching(stage, unit, tile.rows), channel, count, scratch, [&](const Row<T>& row) {
        Cell made{int32_t(row.y * planes.step[0] - floor_div(first_output(unit, 0), planes.stride[0])),
                  int32_t(row.xs.lo * planes.step[1] - floor_div(first_output(unit, 1), planes.stride[1])),
                  int32_t(u - tile.units.lo), 0, kept};
        const T* cell = row.cells;
        for (int64_t x = row.xs.lo; x < row.xs.hi; ++x, cell += row.cell_stride, made.column += planes.step[1]) {
          made.count =
              int32_t(nonzero_channels(cell, row.line_stride, lines, stage.rectify, scratch.values.get() + made.first,
                                       scratch.channels.get() + made.first));
          if (made.count > 0) scratch.cells[cells_made++] = made;
          made.first += made.count;
        }
        kept = made.first;
      });
    }
    ends.push_back(cells_made);
  }
  const std::vector<Tap> taps = taps_of(stage, planes, channel_blocks, filters.tap_size());
  const int64_t block_size = int64_t(taps.size()) * filters.tap_size();
  for (int64_t b = tile.blocks.lo; b < tile.blocks.hi; ++b) {
    std::memset(scratch.sums.get(), 0, tile.units.size() * unit_size * sizeof(T));
    const T* const of_block = filters.data + b * block_size;
    const T* const next_block = filters.data + (b + 1 < tile.blocks.hi ? b + 1 : tile.blocks.lo) * block_size;
    for (size_t t = 0; t < taps.size(); ++t) {
      const int64_t first = ends[taps[t].channel_block], end = ends[taps[t].channel_block + 1];
      if (first == end) continue;
      add_tap(scratch.cells.get() + first, scratch.cells.get() + end, scratch.values.get(), scratch.channels.get(),
              of_block + taps[t].filters,
              t + 1 < taps.size() ? of_block + taps[t + 1].filters : next_block + taps[0].filters, filters.tap_size(),
              taps[t], planes, scratch.sums.get());
    }
    const int64_t rest = stage.outputs - b * width;
    for (int64_t u = 0; u < tile.units.size(); ++u) {
      const Unit<T>& unit = units[tile.units.lo + u];
      const Pair shift{floor_mod(first_output(unit, 0), planes.stride[0]),
                       floor_mod(first_output(unit, 1), planes.stride[1])};
      write_planes<T>(stage, planes, shift, scratch.sums.get() + u * unit_size, width, rest < width ? rest : width,
                      unit.out + b * width * stage.out_stride[0] + tile.rows.lo * stage.out_stride[1], rows,
                      scratch.row.get());
    }
  }
}

template <class T>
inline constexpr StageLoops<T> kStageLoops{.lanes = kLanes<T>,
                                           .footprint_vectors = footprint_vectors<T>(),
                                           .transpose = transpose<T>,
                                           .run_flat_tile = run_flat_tile<T>,
                                           .run_blocked_tile = run_blocked_tile<T>};

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
