#include "gather_loops.h"

namespace zfkernels::cpu::ZFK_ISA {

using namespace deconv;

// --- unpooling ---

// Adds (or puts) pooled values to where their switches point: place[switch] from the corner of their pooling window.
template <class T, bool kSum>
void scatter(const std::array<int64_t, 3>& size, const T* values, const std::array<int64_t, 3>& value_stride,
             const uint8_t* switches, const std::array<int64_t, 3>& switch_stride, T* corners,
             const std::array<int64_t, 3>& corner_stride, const int32_t* place) {
  const int64_t value_step = value_stride[2], switch_step = switch_stride[2], corner_step = corner_stride[2];
  for (int64_t i = 0; i < size[0]; ++i)
    for (int64_t j = 0; j < size[1]; ++j) {
      const T* value = values + i * value_stride[0] + j * value_stride[1];
      const uint8_t* code = switches + i * switch_stride[0] + j * switch_stride[1];
      T* corner = corners + i * corner_stride[0] + j * corner_stride[1];
      for (int64_t k = 0; k < size[2]; ++k, value += value_step, code += switch_step, corner += corner_step) {
        if constexpr (kSum)
          corner[place[*code]] += *value;
        else
          corner[place[*code]] = *value;
      }
    }
}

// Scatters one line of channels of the pooled cells `box`; cells outside the crop are zeros.
template <class T>
void scatter_line(const Stage& stage, const Unit<T>& unit, const Box& box, int64_t channel, int64_t count, T* corners,
                  int64_t pitch, const int32_t* place) {
  const auto& vs = stage.value_stride;
  const auto& ss = stage.switch_stride;
  const int64_t down = stage.pool.stride[0] * pitch, right = stage.pool.stride[1] * Stage::kLine;
  const auto put = [&](Range is, Range js, const T* values, int64_t by_channel, int64_t by_row, int64_t by_column) {
    if (is.size() == 0 || js.size() == 0) return;
    const uint8_t* switches = unit.switches + channel * ss[0] + is.lo * ss[1] + js.lo * ss[2];
    T* to = corners + (is.lo - box[0].lo) * down + (js.lo - box[1].lo) * right;
    const auto scatter = stage.sum ? &ZFK_ISA::scatter<T, true> : &ZFK_ISA::scatter<T, false>;
    if (vs[0] == 1)  // innermost what lies together; rows outermost, so that the cells of one stay in the first cache
      scatter({is.size(), js.size(), count}, values, {by_row, by_column, by_channel}, switches, {ss[1], ss[2], ss[0]},
              to, {down, right, 1}, place);
    else
      scatter({is.size(), count, js.size()}, values, {by_row, by_channel, by_column}, switches, {ss[1], ss[0], ss[2]},
              to, {down, 1, right}, place);
  };
  static constexpr T kZero = 0;
  const Box inside{box[0] & unit.crop[0], box[1] & unit.crop[1]};
  if (inside[0].size() == 0 || inside[1].size() == 0) return put(box[0], box[1], &kZero, 0, 0, 0);
  // The order of pooling windows decides which one wins: with zeros beside the crop, one row after the other.
  const bool all_rows = inside[1].size() == box[1].size();
  put({box[0].lo, inside[0].lo}, box[1], &kZero, 0, 0, 0);
  for (int64_t i = inside[0].lo; i < inside[0].hi; i = all_rows ? inside[0].hi : i + 1) {
    const Range rows{i, all_rows ? inside[0].hi : i + 1};
    put(rows, {box[1].lo, inside[1].lo}, &kZero, 0, 0, 0);
    put(rows, inside[1],
        unit.values + channel * vs[0] + (i - unit.crop[0].lo) * vs[1] + (inside[1].lo - unit.crop[1].lo) * vs[2], vs[0],
        vs[1], vs[2]);
    put(rows, {inside[1].hi, box[1].hi}, &kZero, 0, 0, 0);
  }
  put({inside[0].hi, box[0].hi}, box[1], &kZero, 0, 0, 0);
}

// The rows of `wanted` cells, `count` channels from `channel` on, each cell gathered from the windows that cover it;
// hands each to row_done(Row), and scratch.nonzero holds the channels of its cells that are to be filtered.
template <class T, class RowDone>
void gather(const Stage& stage, const Unit<T>& unit, const Box& wanted, int64_t channel, int64_t count,
            const Scratch<T>& scratch, const RowDone& row_done) {
  const int64_t whole = round_up(count, Stage::kLine);
  const Range& windows = unit.pooled[1];
  const int64_t left = windows.lo * stage.pool.stride[1] - stage.pool.padding[1];
  const Range columns = wanted[1] & Range{left, left + stage.pool.span(1, windows.size())};
  if (windows.size() == 0 || columns.size() == 0) return;
  // The windows of an axis that cover a cell, from the first to the last: where they lie and the tap that covers it.
  struct Covering {
    int64_t value, code, tap;
    bool held;  // by the crop
  };
  const auto cover = [&](int axis, int64_t cell, std::vector<Covering>& found) {
    const int64_t at = cell + stage.pool.padding[axis], stride = stage.pool.stride[axis];
    const Range reach =
        unit.pooled[axis] & Range{ceil_div(at - stage.pool.extent(axis) + 1, stride), floor_div(at, stride) + 1};
    for (int64_t window = reach.lo; window < reach.hi; ++window)
      if ((at - window * stride) % stage.pool.dilation[axis] == 0)
        found.push_back({(window - unit.crop[axis].lo) * stage.value_stride[1 + axis],
                         window * stage.switch_stride[1 + axis], (at - window * stride) / stage.pool.dilation[axis],
                         unit.crop[axis].holds(window)});
  };
  std::vector<Covering> down, right;
  std::vector<int64_t> ends;  // in `right`, of each cell
  for (int64_t x = columns.lo; x < columns.hi; ++x) {
    cover(1, x, right);
    ends.push_back(right.size());
  }
  static constexpr T kZeros[Filters<T>::kMostChannels] = {};  // of the cells beside a crop
  std::vector<Cover<T>> covers(stage.pool.kernel[0] * stage.pool.kernel[1]);
  for (int64_t y = wanted[0].lo; y < wanted[0].hi; ++y) {
    down.clear();
    cover(0, y, down);
    T* cell = scratch.slab.get();
    for (int64_t x = 0, first = 0; x < columns.size(); first = ends[x++], cell += whole) {
      int64_t found = 0;
      for (const Covering& row : down)
        for (int64_t k = first; k < ends[x]; ++k)
          covers[found++] = {row.held && right[k].held ? unit.values + channel + row.value + right[k].value : kZeros,
                             unit.switches + channel + row.code + right[k].code,
                             int(row.tap * stage.pool.kernel[1] + right[k].tap)};
      scratch.nonzero[x] = gather_nonzero(covers.data(), found, count, stage.sum, stage.rectify, cell);
      for (int64_t c = count; c < whole; ++c) cell[c] = 0;
    }
    row_done(Row<T>{y, columns, scratch.slab.get(), whole, Stage::kLine});
  }
}

// Unpools `count` channels from `channel` on, and hands each finished row of `wanted` cells to row_done(Row). A few
// rows of pooled cells at a time are scattered into the slab, for each line of channels two halves: the first
// [row][column][kLine], all zero before and after; the second for switches that point outside their window, never read.
template <class T, class RowDone>
void unpool(const Stage& stage, const Unit<T>& unit, const Box& wanted, int64_t channel, int64_t count,
            const Scratch<T>& scratch, const RowDone& row_done) {
  if (stage.gathers()) return gather(stage, unit, wanted, channel, count, scratch, row_done);
  constexpr int64_t kLine = Stage::kLine;
  const Sliding& pool = stage.pool;
  Box pooled;  // the pooling windows that reach a wanted cell
  for (int axis : {0, 1}) {
    const Range padded{wanted[axis].lo + pool.padding[axis], wanted[axis].hi + pool.padding[axis]};
    pooled[axis] = unit.pooled[axis] & Range{ceil_div(padded.lo - pool.extent(axis) + 1, pool.stride[axis]),
                                             floor_div(padded.hi - 1, pool.stride[axis]) + 1};
    if (pooled[axis].size() == 0 || wanted[axis].size() == 0) return;
  }
  const int64_t stride = pool.stride[0], pitch = pool.span(1, pooled[1].size()) * kLine;
  const int64_t most = stage.pooled_rows(pooled[1].size(), sizeof(T));
  const int64_t step = most < pooled[0].size() ? most : pooled[0].size();
  const int64_t lines = ceil_div(count, kLine), line_stride = 2 * scratch.half;
  const int64_t left = pooled[1].lo * pool.stride[1] - pool.padding[1];  // unpooled column of the slab's first
  const Range columns = wanted[1] & Range{left, left + pitch / kLine};

  int32_t place[256];
  for (int32_t& p : place) p = int32_t(scratch.half);
  for (int64_t ky = 0, code = 0; ky < pool.kernel[0]; ++ky)
    for (int64_t kx = 0; kx < pool.kernel[1]; ++kx, ++code)
      place[code] = int32_t(ky * pool.dilation[0] * pitch + kx * pool.dilation[1] * kLine);

  for (int64_t i = pooled[0].lo; i < pooled[0].hi; i += step) {
    const Range is = pooled[0] & Range{i, i + step};
    for (int64_t line = 0; line < lines; ++line) {
      const int64_t rest = count - line * kLine;
      scatter_line(stage, unit, {is, pooled[1]}, channel + line * kLine, rest < kLine ? rest : kLine,
                   scratch.slab.get() + line * line_stride, pitch, place);
    }
    const bool last = is.hi == pooled[0].hi;
    const int64_t written = pool.span(0, is.size());
    const int64_t done = last || is.size() * stride > written ? written : is.size() * stride;
    for (int64_t r = 0; r < done; ++r) {
      const int64_t y = i * stride + r - pool.padding[0];
      if (wanted[0].holds(y) && columns.size() > 0)
        row_done(Row<T>{y, columns, scratch.slab.get() + r * pitch + (columns.lo - left) * kLine, kLine, line_stride});
    }
    for (int64_t line = 0; line < lines; ++line) {  // rows that later pooling windows reach too move to the top
      T* top = scratch.slab.get() + line * line_stride;
      std::memmove(top, top + done * pitch, (written - done) * pitch * sizeof(T));
      std::memset(top + (written - done) * pitch, 0, done * pitch * sizeof(T));
    }
  }
}

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
Box reaching(const Stage& stage, const Unit<T>& unit, const Range& rows) {
  Box box;
  for (int axis : {0, 1}) {
    const Range out = axis == 0 ? rows : Range{0, stage.out_size[1]};
    const int64_t shift = unit.origin[axis] + stage.conv.padding[axis], stride = stage.conv.stride[axis];
    box[axis] = unit.unpooled[axis] & Range{ceil_div(out.lo + shift - stage.conv.extent(axis) + 1, stride),
                                            floor_div(out.hi - 1 + shift, stride) + 1};
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

// One tap: adds each list of channels, times their filters, to the outputs [unit, row, column][kVectors].
template <class T, int kVectors>
void add_tap(const Cell* cells, const Cell* end, const T* values, const int32_t* channels, const T* filters, T* outputs,
             int32_t down, int32_t right, int32_t rows, int32_t columns) {
  for (const Cell* cell = cells; cell != end; ++cell) {
    const uint32_t row = cell->row + down, column = cell->column + right;
    if (row >= uint32_t(rows) || column >= uint32_t(columns)) continue;
    T* out = outputs + ((int64_t(cell->unit) * rows + row) * columns + column) * kVectors * kLanes<T>;
    Vector<T> sums[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[v] = load(out + v * kLanes<T>);
    for (int64_t k = cell->first; k < cell->first + cell->count; ++k)
      multiply<T, kVectors>(sums, values[k], filters + channels[k] * kVectors * kLanes<T>);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(out + v * kLanes<T>, sums[v]);
  }
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

// sums [row][column][channels] to the output, by its strides.
template <class T>
void write_out(const T* sums, const Pair& sums_stride, int64_t channels, T* out,
               const std::array<int64_t, 3>& out_stride, int64_t rows, int64_t columns) {
  constexpr int64_t kSquare = kLanes<T>;
  const bool turned = out_stride[2] == 1 && out_stride[0] != 1;
  const int64_t square_columns = turned ? columns / kSquare * kSquare : 0;
  const int64_t square_channels = turned ? channels / kSquare * kSquare : 0;
  for (int64_t y = 0; y < rows; ++y) {
    const T* from = sums + y * sums_stride[0];
    T* to = out + y * out_stride[1];
    if (out_stride[0] == 1) {
      for (int64_t x = 0; x < columns; ++x)
        std::memcpy(to + x * out_stride[2], from + x * sums_stride[1], channels * sizeof(T));
      continue;
    }
    for (int64_t c = 0; c < square_channels; c += kSquare)
      for (int64_t x = 0; x < square_columns; x += kSquare)
        transpose(from + x * sums_stride[1] + c, sums_stride[1], to + c * out_stride[0] + x, out_stride[0]);
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t x = c < square_channels ? square_columns : 0; x < columns; ++x)
        to[c * out_stride[0] + x * out_stride[2]] = from[x * sums_stride[1] + c];
  }
}

template <class T>
void run_flat_tile(const Stage& stage, const Filters<T>& filters, const Unit<T>* units, const Tile& tile,
                   const Scratch<T>& scratch) {
  static constexpr auto kAddFootprints = add_footprints_table<T>(std::make_integer_sequence<int, 12>());
  const Sliding& conv = stage.conv;
  const int64_t rows = tile.rows.size(), columns = stage.out_size[1], outputs = stage.outputs;
  // Around the outputs lies a margin, into which a cell at the border may reach.
  const int64_t top = conv.extent(0) - 1, left = conv.extent(1) - 1;
  const int64_t pitch = (columns + 2 * left) * outputs;
  const int64_t width = filters.width();
  // Where the vectors of a footprint go, and which of their lanes.
  const int64_t run = conv.kernel[1] * outputs, vectors_per_row = ceil_div(run, kLanes<T>);
  std::vector<int64_t> offsets(filters.vectors);
  T* masks = scratch.masks.get();
  std::memset(masks, 0, width * sizeof(T));
  for (int64_t v = 0; v < filters.vectors; ++v) {
    const int64_t first = v % vectors_per_row * kLanes<T>;
    offsets[v] = v / vectors_per_row * conv.dilation[0] * pitch + first;
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
        ChannelSet* nonzero = scratch.nonzero.get();
        for (int64_t x = 0; x < row.xs.size() && !stage.gathers(); ++x) {
          nonzero[x] = {};
          for (int64_t line = 0; line < lines; ++line)
            nonzero[x][line / 4] |=
                uint64_t(nonzero_bits(row.cells + line * row.line_stride + x * row.cell_stride, stage.rectify))
                << line % 4 * 16;
        }
        const int64_t y = row.y * conv.stride[0] - conv.padding[0] - unit.origin[0] - tile.rows.lo + top;
        if (y + conv.extent(0) > first + held) write_until(y);
        T* to = sums + (y - first) * pitch +
                (row.xs.lo * conv.stride[1] - conv.padding[1] - unit.origin[1] + left) * outputs;
        for (int64_t b = 0; b < filters.blocks; ++b) {
          const Range vectors = filters.pass(b);
          kAddFootprints[vectors.size() - 1](
              row, nonzero, filters.data + (stage.channels * vectors.lo + channel * vectors.size()) * kLanes<T>,
              vectors.size() * kLanes<T>, to, conv.stride[1] * outputs, offsets.data() + vectors.lo,
              masks + vectors.lo * kLanes<T>);
        }
      });
    }
    write_until(all_rows);
  }
}

template <class T>
void run_blocked_tile(const Stage& stage, const Filters<T>& filters, const Unit<T>* units, const Tile& tile,
                      const Scratch<T>& scratch) {
  static constexpr auto kAddTap = add_tap_table<T>(std::make_integer_sequence<int, 8>());
  const auto add_tap = kAddTap[filters.vectors - 1];
  const Sliding& conv = stage.conv;
  const int64_t rows = tile.rows.size(), columns = stage.out_size[1], width = filters.width();
  const int64_t channel_blocks = ceil_div(stage.channels, filters.block_channels);
  std::vector<int64_t> ends{0};  // of each channel block's cells
  int64_t cells_made = 0, kept = 0;
  for (int64_t channel = 0; channel < stage.channels; channel += filters.block_channels) {
    const int64_t rest = stage.channels - channel;
    const int64_t count = rest < filters.block_channels ? rest : filters.block_channels;
    const int64_t lines = ceil_div(count, Stage::kLine);
    for (int64_t u = tile.units.lo; u < tile.units.hi; ++u) {
      const Unit<T>& unit = units[u];
      unpool(stage, unit, reaching(stage, unit, tile.rows), channel, count, scratch, [&](const Row<T>& row) {
        Cell made{int32_t(row.y * conv.stride[0] - conv.padding[0] - unit.origin[0] - tile.rows.lo),
                  int32_t(row.xs.lo * conv.stride[1] - conv.padding[1] - unit.origin[1]), int32_t(u - tile.units.lo), 0,
                  kept};
        const T* cell = row.cells;
        for (int64_t x = row.xs.lo; x < row.xs.hi; ++x, cell += row.cell_stride, made.column += conv.stride[1]) {
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
  const int64_t taps = conv.kernel[0] * conv.kernel[1];
  const int64_t filter_size = filters.block_channels * width;  // of one tap
  for (int64_t b = tile.blocks.lo; b < tile.blocks.hi; ++b) {
    std::memset(scratch.sums.get(), 0, tile.units.size() * rows * columns * width * sizeof(T));
    // Taps of one phase of the stride write the same outputs: those stay in the second cache meanwhile.
    for (int64_t py = 0; py < conv.stride[0] && py < conv.kernel[0]; ++py)
      for (int64_t px = 0; px < conv.stride[1] && px < conv.kernel[1]; ++px)
        for (int64_t c = 0; c < channel_blocks; ++c)
          for (int64_t ky = py; ky < conv.kernel[0]; ky += conv.stride[0])
            for (int64_t kx = px; kx < conv.kernel[1]; kx += conv.stride[1])
              add_tap(scratch.cells.get() + ends[c], scratch.cells.get() + ends[c + 1], scratch.values.get(),
                      scratch.channels.get(),
                      filters.data + ((b * channel_blocks + c) * taps + ky * conv.kernel[1] + kx) * filter_size,
                      scratch.sums.get(), int32_t(ky * conv.dilation[0]), int32_t(kx * conv.dilation[1]), int32_t(rows),
                      int32_t(columns));
    const int64_t rest = stage.outputs - b * width;
    for (int64_t u = 0; u < tile.units.size(); ++u)
      write_out<T>(scratch.sums.get() + u * rows * columns * width, {columns * width, width},
                   rest < width ? rest : width,
                   units[tile.units.lo + u].out + b * width * stage.out_stride[0] + tile.rows.lo * stage.out_stride[1],
                   stage.out_stride, rows, columns);
  }
}

}  // namespace zfkernels::cpu::ZFK_ISA
