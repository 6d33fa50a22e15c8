// Unpooling, row by row: the first half of the loops of unpool_relu_conv_transpose2d_kernel.cpp; see for_each_isa.h.
#if defined(ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_UNPOOL_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_UNPOOL_LOOPS)
#undef ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_UNPOOL_LOOPS
#else
#define ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_UNPOOL_LOOPS
#endif

#include "gather_loops.h"
#include "unpool_relu_conv_transpose2d_pair_loops.h"

namespace zfkernels::cpu::ZFK_ISA {

using namespace deconv;

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
void scatter_line(const Stage& stage, const Unit<T>& unit, const Ranges& box, int64_t channel, int64_t count,
                  T* corners, int64_t pitch, const int32_t* place) {
  const auto& vs = stage.value_stride;
  const auto& ss = stage.switch_stride;
  const int64_t down = stage.pool.rows.stride * pitch, right = stage.pool.columns.stride * Stage::kLine;
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
  const Ranges inside{box[0] & unit.crop[0], box[1] & unit.crop[1]};
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

// What a row or column of pooling windows that covers a cell adds to the place of its values and switches, and to the
// switch that names the cell.
struct Covering {
  int64_t value, code;
  int tap;
  bool held;  // by the crop
};

// The windows of a row in some columns, from where those of row and column 0 lie.
template <class T>
Cover<T>* append_covers(const Cover<T>& corner, const Covering& row, const Covering* first, const Covering* end,
                        Cover<T>* covers) {
  static constexpr T kZeros[Filters<T>::kMostChannels] = {};  // of the cells beside a crop
  const T* const values = corner.values + row.value;
  const uint8_t* const codes = corner.codes + row.code;
  for (const Covering* column = first; column != end; ++column, ++covers) {
    covers->values = row.held && column->held ? values + column->value : kZeros;
    covers->codes = codes + column->code;
    covers->code = row.tap + column->tap;
  }
  return covers;
}

// The rows of `wanted` cells, `count` channels from `channel` on, gathered from the windows that cover them; hands
// each, with the channels that are to be filtered, to row_done(Row).
template <class T, class RowDone>
void gather(const Stage& stage, const Unit<T>& unit, const Ranges& wanted, int64_t channel, int64_t count,
            const Scratch<T>& scratch, const RowDone& row_done) {
  const int64_t whole = round_up(count, Stage::kLine);
  const Sliding& pool = stage.pool;
  const auto first_cell = [&](int64_t window) { return pool.columns.start(window); };
  const Range& held = unit.pooled[1];
  const Range columns = wanted[1] & Range{first_cell(held.lo), first_cell(held.lo) + pool.columns.span(held.size())};
  if (held.size() == 0 || columns.size() == 0) return;
  const auto cover = [&](int axis, int64_t cell, std::vector<Covering>& found) {
    for_covering(stage.pool[axis], cell, unit.pooled[axis].lo, unit.pooled[axis].hi, [&](int64_t window, int64_t tap) {
      found.push_back({(window - unit.crop[axis].lo) * stage.value_stride[1 + axis],
                       window * stage.switch_stride[1 + axis], int(axis == 0 ? tap * stage.pool.columns.kernel : tap),
                       unit.crop[axis].holds(window)});
    });
  };
  std::vector<Covering> down, right;
  std::vector<int64_t> ends;  // in `right`, of each cell
  for (int64_t x = columns.lo; x < columns.hi; ++x) {
    cover(1, x, right);
    ends.push_back(right.size());
  }
  const Cover<T> corner{unit.values + channel, unit.switches + channel, 0};
  std::vector<Cover<T>> covers(pool.taps());
  const GatherPairs<T>* const pairs = pairs_of<T>(stage, count);
  const Range windows = held & Range{pool.columns.first_over(columns.lo), pool.columns.last_over(columns.hi - 1) + 1};
  for (int64_t y = wanted[0].lo; y < wanted[0].hi; ++y) {
    down.clear();
    cover(0, y, down);
    if (pairs && (down.size() == 1 || down.size() == 2)) {
      for (size_t row = 0; row < down.size(); ++row)
        covers[row] = {corner.values + down[row].value + (windows.lo - unit.crop[1].lo) * stage.value_stride[2],
                       corner.codes + down[row].code + windows.lo * stage.switch_stride[2], down[row].tap};
      pairs[down.size() - 1](stage, covers.data(), windows.size(), count, scratch.slab.get(), scratch.nonzero.get());
      const int64_t unread = columns.lo - first_cell(windows.lo);
      row_done(
          Row<T>{y, columns, scratch.slab.get() + unread * whole, whole, Stage::kLine, scratch.nonzero.get() + unread});
      continue;
    }
    T* cell = scratch.slab.get();
    for (int64_t x = 0, first = 0; x < columns.size(); first = ends[x++], cell += whole) {
      Cover<T>* found = covers.data();
      for (const Covering& row : down)
        found = append_covers(corner, row, right.data() + first, right.data() + ends[x], found);
      scratch.nonzero[x] = gather_nonzero(covers.data(), found - covers.data(), count, stage.sum, stage.rectify, cell);
      for (int64_t c = count; c < whole; ++c) cell[c] = 0;
    }
    row_done(Row<T>{y, columns, scratch.slab.get(), whole, Stage::kLine, scratch.nonzero.get()});
  }
}

// Unpools `count` channels from `channel` on, and hands each finished row of `wanted` cells to row_done(Row). A few
// rows of pooled cells at a time are scattered into the slab, for each line of channels two halves: the first
// [row][column][kLine], all zero before and after; the second for switches that point outside their window, never read.
template <class T, class RowDone>
void unpool(const Stage& stage, const Unit<T>& unit, const Ranges& wanted, int64_t channel, int64_t count,
            const Scratch<T>& scratch, const RowDone& row_done) {
  if (stage.gathers()) return gather(stage, unit, wanted, channel, count, scratch, row_done);
  constexpr int64_t kLine = Stage::kLine;
  const Sliding& pool = stage.pool;
  Ranges pooled;  // the pooling windows that reach a wanted cell
  for (int axis : {0, 1}) {
    pooled[axis] = unit.pooled[axis] &
                   Range{pool[axis].first_over(wanted[axis].lo), pool[axis].last_over(wanted[axis].hi - 1) + 1};
    if (pooled[axis].size() == 0 || wanted[axis].size() == 0) return;
  }
  const int64_t stride = pool.rows.stride, pitch = pool.columns.span(pooled[1].size()) * kLine;
  const int64_t most = stage.pooled_rows(pooled[1].size(), sizeof(T));
  const int64_t step = most < pooled[0].size() ? most : pooled[0].size();
  const int64_t lines = ceil_div(count, kLine), line_stride = 2 * scratch.half;
  const int64_t left = pool.columns.start(pooled[1].lo);  // unpooled column of the slab's first
  const Range columns = wanted[1] & Range{left, left + pitch / kLine};

  int32_t place[256];
  for (int32_t& p : place) p = int32_t(scratch.half);
  for (int64_t ky = 0, code = 0; ky < pool.rows.kernel; ++ky)
    for (int64_t kx = 0; kx < pool.columns.kernel; ++kx, ++code)
      place[code] = int32_t(ky * pool.rows.dilation * pitch + kx * pool.columns.dilation * kLine);

  for (int64_t i = pooled[0].lo; i < pooled[0].hi; i += step) {
    const Range is = pooled[0] & Range{i, i + step};
    for (int64_t line = 0; line < lines; ++line) {
      const int64_t rest = count - line * kLine;
      scatter_line(stage, unit, {is, pooled[1]}, channel + line * kLine, rest < kLine ? rest : kLine,
                   scratch.slab.get() + line * line_stride, pitch, place);
    }
    const bool last = is.hi == pooled[0].hi;
    const int64_t written = pool.rows.span(is.size());
    const int64_t done = last || is.size() * stride > written ? written : is.size() * stride;
    for (int64_t r = 0; r < done; ++r) {
      const int64_t y = pool.rows.start(i) + r;
      if (wanted[0].holds(y) && columns.size() > 0)
        row_done(Row<T>{y, columns, scratch.slab.get() + r * pitch + (columns.lo - left) * kLine, kLine, line_stride,
                        nullptr});
    }
    for (int64_t line = 0; line < lines; ++line) {  // rows that later pooling windows reach too move to the top
      T* top = scratch.slab.get() + line * line_stride;
      std::memmove(top, top + done * pitch, (written - done) * pitch * sizeof(T));
      std::memset(top + (written - done) * pitch, 0, done * pitch * sizeof(T));
    }
  }
}

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
