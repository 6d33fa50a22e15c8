// occluded_conv2d of boxes that all show the same.
//
// What positions share is computed once. A row of outputs and the rows of taps that a square covers fix, for each
// output and column of taps, two partial sums over ky and c: `clean`, and `covered` as if the square had no sides. An
// output of any square of that row is a first, middle or last part of the covered columns and the clean rest; prefix
// sums over the kernel's columns hold all first and last parts (sum_columns), so that an output is one
// copied vector. Outputs deep inside the square and squares on other rows that cover all taps come out of the same
// sums.
//
// Floors, a square of 32 at stride 1: the windows that are written, 34x34, 19x19 and 11x11 vectors of 64 channels for
// 3x3, 7x7/2 and 11x11/4.
//
// Include it behind for_each_isa.h with the loops of occluded_conv2d_loops.h.
#pragma once

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

#include "caches.h"
#include "conv_tile.h"
#include "geometry.h"
#include "parallel.h"
#include "places.h"
#include "tensor_view.h"
#include "weight_panels.h"

namespace zfkernels::cpu {
namespace {

constexpr int64_t kSumBytes = 3 << 17;              // what the sums of a stretch of a row may take
constexpr int64_t kMostCached = int64_t(16) << 20;  // larger outputs leave the caches before anyone reads them

struct Square {
  int64_t image;
  Box hidden;      // inside the image
  Box out;         // its outputs
  int64_t output;  // the first of them
  auto key() const { return std::tie(image, hidden.top, hidden.height, out.left, hidden.left, hidden.width, output); }
};

// The squares of one image that have outputs in row `out_row`: some of the list of members.
struct Row {
  int64_t image, out_row, first, last;
};

struct Range {
  int64_t first = 0, last = 0;
  bool empty() const { return first >= last; }
  bool operator==(const Range&) const = default;
};

// The smallest range that holds both; an empty one adds nothing.
inline Range hull(const Range& a, const Range& b) {
  if (a.empty() || b.empty()) return a.empty() ? b : a;
  return {std::min(a.first, b.first), std::max(a.last, b.last)};
}

template <class T>
class OccludedConv2d {
 public:
  OccludedConv2d(const View<const T>& images, const View<const T>& fill, const View<const T>& weight, const T* bias,
                 const Sliding& layer, int64_t groups, bool relu, T* out, bool past_caches)
      : images_(images),
        fill_(fill),
        bias_(bias),
        layer_(layer),
        relu_(relu),
        channels_(weight.size[1]),
        outputs_(weight.size[0]),
        out_(out),
        past_caches_(past_caches),
        panels_(split_outputs(outputs_, groups, channels_, tiles_.lanes, tiles_.most_vectors)),
        panel_size_(layer.rows.kernel * channels_ * tiles_.most_vectors * tiles_.lanes),
        packed_(layer.columns.kernel * int64_t(panels_.size()) * panel_size_),
        nothing_(images.size[1], T(0)),
        stretch_(std::max<int64_t>(cached_bytes(kSumBytes) / int64_t(4 * sizeof(T)) / (layer.columns.kernel * outputs_),
                                   kTileRows)) {
    View<const T> column = weight;
    column.size[3] = 1;
    for (int64_t kx = 0; kx < layer.columns.kernel; ++kx, column.data += column.stride[3])
      for (size_t i = 0; i < panels_.size(); ++i)
        pack_panel(column, panels_[i], tiles_.lanes, &packed_[(kx * panels_.size() + i) * panel_size_]);
  }

  void run(std::vector<Square> squares) const {
    std::erase_if(squares, [](const Square& square) { return square.out.cells() == 0; });
    if (squares.empty()) return;
    std::sort(squares.begin(), squares.end(), [](const Square& a, const Square& b) { return a.key() < b.key(); });
    Range columns{squares[0].out.left, squares[0].out.right()};
    for (const Square& square : squares) columns = hull(columns, {square.out.left, square.out.right()});
    const int64_t stretches = ceil_div(columns.last - columns.first, stretch_);
    std::vector<const Square*> members;
    const std::vector<Row> rows = find_rows(squares, members);
    share_out(int64_t(rows.size()) * stretches, [&](Tasks& tasks) {
      Worker worker(*this);
      for (int64_t task; tasks.next(task);) {
        const int64_t first = columns.first + task % stretches * stretch_;
        worker.run(rows[task / stretches], members.data(), {first, std::min(first + stretch_, columns.last)});
      }
      loops_.fence_copies();
    });
  }

 private:
  // Every row of outputs of every image, and in `members` its squares in the order of `squares`.
  static std::vector<Row> find_rows(const std::vector<Square>& squares, std::vector<const Square*>& members) {
    std::vector<Row> rows;
    std::vector<int64_t> next;  // of each row of an image: where its next square goes
    for (auto first = squares.begin(); first != squares.end();) {
      const auto last = std::find_if(first, squares.end(), [&](const Square& s) { return s.image != first->image; });
      Range span{first->out.top, first->out.bottom()};
      for (auto s = first; s != last; ++s) span = hull(span, {s->out.top, s->out.bottom()});
      next.assign(span.last - span.first, 0);
      for (auto s = first; s != last; ++s)
        for (int64_t y = s->out.top; y < s->out.bottom(); ++y) ++next[y - span.first];
      int64_t end = members.size();
      for (int64_t& of_row : next) {
        const int64_t start = end;
        end += of_row;
        if (of_row) rows.push_back({first->image, span.first + (&of_row - next.data()), start, end});
        of_row = start;
      }
      members.resize(end);
      for (auto s = first; s != last; ++s)
        for (int64_t y = s->out.top; y < s->out.bottom(); ++y) members[next[y - span.first]++] = &*s;
      first = last;
    }
    return rows;
  }

  // Scratch memory of a thread, and what it does with a stretch of a row of outputs.
  class Worker {
   public:
    explicit Worker(const OccludedConv2d& op)
        : op_(op),
          plane_(op.stretch_ * op.outputs_),
          clean_(op.layer_.columns.kernel * plane_),
          covered_(op.layer_.columns.kernel * plane_),
          sums_(2 * op.layer_.columns.kernel * plane_) {
      const int64_t extent = op.layer_.columns.extent();
      for (int64_t d = 0; d <= extent; ++d) taps_before_.push_back(ceil_div(d, op.layer_.columns.dilation));
      for (int64_t i = 0; i < op.stretch_ + kTileRows; ++i) rows_.push_back(i * op.layer_.columns.stride);
    }

    void run(const Row& row, const Square* const* members, Range stretch) {
      const Square* const* const end = members + row.last;
      Range columns;  // that any window holds
      for (const Square* const* s = members + row.first; s != end; ++s) columns = hull(columns, clip(**s, stretch));
      if (columns.empty()) return;
      start_ = columns.first;
      sum_taps(row, columns, {}, clean_.get());
      Range held_taps{-1, -1}, held;
      for (const Square* const* s = members + row.first; s != end;) {
        // Squares that cover the same taps and whose windows touch one another.
        const Range taps = covered_taps(row.out_row, (*s)->hidden);
        const Square* const* last = s;
        Range run;
        for (; last != end && covered_taps(row.out_row, (*last)->hidden) == taps; ++last) {
          const Range more = clip(**last, stretch);
          if (!run.empty() && !more.empty() && (more.first > run.last || more.last < run.first)) break;
          run = hull(run, more);
        }
        if (run.empty()) {
          s = last;
          continue;
        }
        if (!(taps == held_taps && run == held)) prepare(row, run, held_taps = taps);
        held = run;
        for (; s != last; ++s) write(row.out_row, **s, clip(**s, stretch));
      }
    }

   private:
    static Range clip(const Square& square, const Range& stretch) {
      return {std::max<int64_t>(square.out.left, stretch.first), std::min(square.out.right(), stretch.last)};
    }

    // The rows of taps of the outputs in `out_row` that a square covers.
    Range covered_taps(int64_t out_row, const Box& hidden) const {
      const int64_t first = op_.layer_.rows.start(out_row), step = op_.layer_.rows.dilation;
      Range taps{op_.layer_.rows.kernel, 0};
      for (int64_t ky = 0; ky < op_.layer_.rows.kernel; ++ky) {
        const int64_t y = first + ky * step;
        if (y >= hidden.top && y < hidden.bottom()) taps = {std::min(taps.first, ky), ky + 1};
      }
      return taps.empty() ? Range{} : taps;
    }

    // sums[kx, ox, o] over ky and c, the rows `covered` of taps showing the fill; for the outputs in `columns`.
    void sum_taps(const Row& row, Range columns, Range covered, T* sums) {
      const Axis &down = op_.layer_.rows, &right = op_.layer_.columns;
      const int64_t width = right.span(columns.last - columns.first);
      const int64_t left = right.start(columns.first), top = down.start(row.out_row);
      const int64_t image = row.image;
      cells_.assign(down.kernel * width, op_.nothing_.data());
      for (int64_t ky = 0; ky < down.kernel; ++ky) {
        const int64_t y = top + ky * down.dilation;
        if (y < 0 || y >= op_.images_.size[2]) continue;
        const View<const T>& from = ky >= covered.first && ky < covered.last ? op_.fill_ : op_.images_;
        for (int64_t x = std::max<int64_t>(left, 0); x < std::min(left + width, op_.images_.size[3]); ++x)
          cells_[ky * width + x - left] = from.at(image, 0, y, x);
      }
      Tile<T> tile{};
      tile.cells = cells_.data();
      tile.tap_count = down.kernel;
      tile.channels = op_.channels_;
      tile.out_stride = op_.outputs_;
      for (int64_t kx = 0; kx < right.kernel; ++kx) {
        taps_.clear();
        for (int64_t ky = 0; ky < down.kernel; ++ky) taps_.push_back(ky * width + kx * right.dilation);
        tile.taps = taps_.data();
        for (size_t i = 0; i < op_.panels_.size(); ++i) {
          const Panel& panel = op_.panels_[i];
          tile.panel = &op_.packed_[(kx * op_.panels_.size() + i) * op_.panel_size_];
          tile.channel = panel.channel;
          tile.width = panel.width;
          for (int64_t x = columns.first; x < columns.last; x += kTileRows) {
            tile.rows = tile_rows(x - columns.first, columns.last - columns.first);
            tile.row_count = columns.last - x;
            tile.out = sums + kx * plane_ + (x - start_) * op_.outputs_ + panel.first;
            op_.tiles_.multiply(tile, panel.vectors);
          }
        }
      }
    }

    // Places of the outputs of a tile; those beyond the last read what it reads.
    const int32_t* tile_rows(int64_t first, int64_t count) {
      if (first + kTileRows <= count) return &rows_[first];
      for (int64_t j = 0; j < kTileRows; ++j) last_rows_[j] = rows_[std::min(first + j, count - 1)];
      return last_rows_;
    }

    // All sums of the outputs in `columns` for squares that cover the rows `taps` of taps.
    void prepare(const Row& row, Range columns, Range taps) {
      sum_taps(row, columns, taps, covered_.get());
      for (int64_t x = columns.first; x < columns.last; ++x) {
        const int64_t at = (x - start_) * op_.outputs_;
        op_.loops_.sum_columns(&clean_[at], &covered_[at], op_.layer_.columns.kernel, plane_, op_.outputs_, op_.bias_,
                               op_.relu_, &sums_[at]);
      }
    }

    // The outputs of one square in a row, `columns` of them: runs of outputs of which the same taps are covered.
    void write(int64_t out_row, const Square& square, Range columns) const {
      const int64_t taps = op_.layer_.columns.kernel, outputs = op_.outputs_, stride = op_.layer_.columns.stride;
      const int64_t extent = taps_before_.size() - 1, start = square.hidden.left + op_.layer_.columns.padding;
      const int64_t width = square.hidden.width;
      const auto covered = [&](int64_t x) {
        const int64_t first = start - x * stride;
        return Range{taps_before_[std::clamp<int64_t>(first, 0, extent)],
                     taps_before_[std::clamp<int64_t>(first + width, 0, extent)]};
      };
      const int64_t inside = width < extent ? 0 : (start + width - extent) / stride + 1;
      T* out =
          op_.out_ +
          (square.output + (out_row - square.out.top) * square.out.width + columns.first - square.out.left) * outputs;
      for (int64_t x = columns.first; x < columns.last;) {
        const Range range = covered(x);
        int64_t end = x + 1;
        if (range == Range{0, taps}) end = std::clamp(inside, end, columns.last);  // all of them at once
        while (end < columns.last && covered(end) == range) ++end;
        const int64_t at = (x - start_) * outputs, count = (end - x) * outputs;
        if (range.empty() || range.first == 0 || range.last == taps) {
          const int64_t part = range.empty() ? 0 : range.first == 0 ? range.last : taps + range.first;
          if (op_.past_caches_)
            op_.loops_.copy_past_caches(out, &sums_[part * plane_ + at], count);
          else
            std::memcpy(out, &sums_[part * plane_ + at], count * sizeof(T));
        } else {
          for (int64_t i = 0; i < count; i += outputs)
            op_.loops_.sum_between(&clean_[at + i], &covered_[at + i], taps, plane_, range.first, range.last, outputs,
                                   op_.bias_, op_.relu_, out + i);
        }
        out += count;
        x = end;
      }
    }

    const OccludedConv2d& op_;
    const int64_t plane_;
    const Buffer<T> clean_, covered_, sums_;
    std::vector<int64_t> taps_before_;  // taps that lie before an offset from the first one
    std::vector<const T*> cells_;
    std::vector<int32_t> rows_, taps_;
    int32_t last_rows_[kTileRows];
    int64_t start_ = 0;  // column of the first output in the buffers
  };

  const View<const T>&images_, &fill_;  // cells of neighbouring channels
  const T* const bias_;
  const Sliding& layer_;
  const bool relu_;
  const int64_t channels_, outputs_;
  T* const out_;  // [outputs, C_out]
  const TileLoops<T> tiles_ = ZFK_BEST(kTileLoops<T>);
  const OccludedLoops<T> loops_ = ZFK_BEST(kOccludedLoops<T>);
  const bool past_caches_;
  const std::vector<Panel> panels_;
  const int64_t panel_size_;
  const Buffer<T> packed_;        // [kw, panels, kh * C / groups, vectors * lanes]
  const std::vector<T> nothing_;  // [C], zeros
  const int64_t stretch_;         // outputs of a row in one task
};

}  // namespace
}  // namespace zfkernels::cpu
