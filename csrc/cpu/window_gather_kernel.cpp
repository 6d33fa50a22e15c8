// window_gather: the cells of some boxes from several sets of windows in turn, from the frames or zero.
//
//   out[i, c] = the cell at (y, x) of window rows[s][p] of the first source s that has it, else of frame image[p], else
//   zero, with (p, y, x) the window and the place of output i.
//
// Bound by memory: cells that are neighbours where they come from are copied together.
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "caches.h"
#include "parallel.h"
#include "python_call.h"
#include "window_inputs.h"

namespace zfkernels::cpu {
namespace {

constexpr int64_t kTaskBytes = int64_t(1) << 18;

// One set of windows: values [cells, C], boxes int32 [P', 4], offsets int64 [P' + 1], row int64 [P] or none.
template <class T>
class Source {
 public:
  Source(const Tensor& values, const Tensor& boxes, const Tensor& offsets, const std::optional<Tensor>& row,
         int64_t channels, int64_t count)
      : at_(boxes, offsets, values.size(0)),
        values_(with_contiguous_cells(values)),
        row_(contiguous(row)),
        index_(row_ ? row_->const_data_ptr<int64_t>() : nullptr),
        cells_{at_.get(), values_.const_data_ptr<T>(), values_.stride(0)} {
    const int64_t windows = cells_.at.count;
    check_source(values, row_, windows, channels, count);
    for (int64_t p = 0; row_ && p < count; ++p)
      STD_TORCH_CHECK(index_[p] >= 0 && index_[p] < windows, "expected rows in [0, ", windows, "), got ", index_[p]);
  }

  void put(int64_t p, int64_t y, int64_t left, int64_t columns, const T** cells) const {
    cells_.put(index_ ? index_[p] : p, y, left, columns, cells);
  }

 private:
  const HeldPlaces at_;
  const Tensor values_;
  const std::optional<Tensor> row_;
  const int64_t* const index_;
  const WindowCells<T> cells_;
};

template <class T>
using Sources = std::vector<std::unique_ptr<const Source<T>>>;

template <class T>
class SourceReads final : public CellReads<T> {
 public:
  SourceReads(const Sources<T>& sources, const Frames<T>& frames, const Places& out)
      : CellReads<T>(frames, out, {{1, 1, 0, 1}, {1, 1, 0, 1}}), sources_(sources) {}

 protected:
  void overlay(int64_t p, int64_t y, int64_t left, int64_t columns, const T** cells) const override {
    for (auto source = sources_.rbegin(); source != sources_.rend(); ++source)
      (*source)->put(p, y, left, columns, cells);
  }

 private:
  const Sources<T>& sources_;
};

template <class T>
void copy_reads(const CellReads<T>& reads, T* out) {
  const int64_t channels = reads.channels();
  const int64_t together = std::max<int64_t>(cached_bytes(kTaskBytes) / int64_t(sizeof(T)) / channels, 1);
  share_out(ceil_div(reads.outputs(), together), [&](Tasks& tasks) {
    CellTable<T> table;
    for (int64_t task; tasks.next(task);) {
      const int64_t first = task * together, count = std::min(together, reads.outputs() - first);
      reads.find(first, first + count, 1, table);
      for (int64_t i = 0; i < count;) {
        const T* from = table.cells[table.rows[i]];
        int64_t run = 1;
        while (i + run < count && table.cells[table.rows[i + run]] == from + run * channels) ++run;
        std::memcpy(out + (first + i) * channels, from, run * channels * sizeof(T));
        i += run;
      }
    }
  });
}

template <class T>
Tensor gather(const HeldPlaces& at, const Tensor& image, const std::vector<Tensor>& values,
              const std::vector<Tensor>& boxes, const std::vector<Tensor>& offsets,
              const std::vector<std::optional<Tensor>>& rows, const std::optional<Tensor>& frames, const Pair& frame) {
  const Tensor& like = values.empty() ? *frames : values[0];
  const int64_t channels = like.size(1), count = at.get().count;
  Sources<T> sources;
  for (size_t s = 0; s < values.size(); ++s)
    sources.push_back(std::make_unique<const Source<T>>(values[s], boxes[s], offsets[s], rows[s], channels, count));
  const Frames<T> around(frames, image, count, channels, frame, T(0));
  const SourceReads<T> reads(sources, around, at.get());
  const Tensor out = empty_cells(like, reads.outputs(), channels);
  copy_reads(reads, out.mutable_data_ptr<T>());
  return out;
}

}  // namespace

Tensor window_gather(Tensor out_boxes, Tensor out_offsets, Tensor /*owner*/, int64_t cells, Tensor image,
                     std::vector<Tensor> values, std::vector<Tensor> boxes, std::vector<Tensor> offsets,
                     std::vector<std::optional<Tensor>> rows, std::optional<Tensor> frames, Ints frame) {
  check_sources(values, boxes, offsets, rows, frames);
  const HeldPlaces at(out_boxes, out_offsets, cells, "out_boxes", "out_offsets");
  const auto run = ZFK_FOR_DTYPE(values.empty() ? *frames : values[0], gather);
  return run(at, image, values, boxes, offsets, rows, frames, to_pair<int64_t>(frame));
}

}  // namespace zfkernels::cpu

ZFK_CPU_KERNEL(window_gather);
