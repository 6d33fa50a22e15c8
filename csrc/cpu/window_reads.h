// What the outputs of a layer on windows read: for each output the cells under its taps, whether they lie in the
// window, in the frame around it or beyond.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "geometry.h"
#include "places.h"
#include "tensor_view.h"

namespace zfkernels::cpu {

// The cells that some outputs read.
template <class T>
struct CellTable {
  std::vector<const T*> cells;            // one block of `pitch` columns for each window
  std::vector<int32_t> rows;              // the place in it of each output's first cell
  std::vector<int32_t> taps, fresh_taps;  // the distance from there to each tap; those taps that the output to the
                                          // left, if there is one, does not read
  int64_t pitch = 0;
};

// Frames around windows and what lies beyond them.
template <class T>
class Frames {
 public:
  // frames [N, C, H, W] or none: zeros. `outside` is the value of all cells beyond the frame.
  Frames(const std::optional<Tensor>& frames, const Tensor& image, int64_t windows, int64_t channels, const Pair& size,
         T outside)
      : frames_(with_contiguous_cells(frames)),
        image_(torch::stable::contiguous(image)),
        size_(size),
        inside_(channels, T(0)),
        outside_(channels, outside),
        index_(image_.const_data_ptr<int64_t>()) {
    if (!frames_) return;
    check_frames(*frames_, channels, size);
    frame_ = read<T>(*frames_);
    check_images(image_, windows, frame_.size[0]);
  }

  // Pointers to `columns` cells of row y around window p, the first of them in column `left`.
  void find(int64_t p, int64_t y, int64_t left, int64_t columns, const T** cells) const {
    std::fill(cells, cells + columns, outside_.data());
    if (y < 0 || y >= size_[0]) return;
    const int64_t first = std::max<int64_t>(left, 0), last = std::min(left + columns, size_[1]);
    if (!frames_) {
      if (first < last) std::fill(cells + (first - left), cells + (last - left), inside_.data());
      return;
    }
    const T* line = frame_.at(index_[p], 0, y, 0);
    for (int64_t x = first; x < last; ++x) cells[x - left] = line + x * frame_.stride[3];
  }

  int64_t channels() const { return inside_.size(); }

 private:
  const std::optional<Tensor> frames_;
  const Tensor image_;
  const Pair size_;
  const std::vector<T> inside_, outside_;  // [C]
  const int64_t* const index_;
  View<const T> frame_;
};

template <class T>
class CellReads {
 public:
  CellReads(const Frames<T>& frames, const Places& out, const Sliding& layer)
      : frames_(frames), out_(out), layer_(layer) {}
  virtual ~CellReads() = default;

  int64_t channels() const { return frames_.channels(); }
  int64_t outputs() const { return out_.cells(); }
  int64_t taps() const { return layer_.taps(); }
  const Places& out() const { return out_; }
  const Sliding& layer() const { return layer_; }

  // Pointers to the cells of `height` lines from row `row` on, `columns` from column `left` on, as window p's outputs
  // read them; those of the next line are `pitch` further on.
  void find_lines(int64_t p, int64_t row, int64_t height, int64_t left, int64_t columns, int64_t pitch,
                  const T** cells) const {
    for (int64_t y = row; y < row + height; ++y, cells += pitch) {
      frames_.find(p, y, left, columns, cells);
      overlay(p, y, left, columns, cells);
    }
  }

  // Fills `table` with the cells that the outputs [first, last) read; the last output is repeated up to a multiple of
  // `multiple`.
  void find(int64_t first, int64_t last, int64_t multiple, CellTable<T>& table) const {
    const int64_t owner = out_.owner(first);
    int64_t pitch = 0, lines = 0;
    for (int64_t p = owner; p < out_.count && out_.offsets[p] < last; ++p) {
      const auto [top, bottom] = lines_of(p, first, last);
      if (top == bottom) continue;
      pitch = std::max(pitch, layer_.columns.span(out_.boxes[p].width));
      lines += layer_.rows.span(bottom - top);
    }
    if (pitch != table.pitch) find_taps(table, pitch);
    if (int64_t(table.cells.size()) < lines * pitch) table.cells.resize(lines * pitch);
    table.rows.clear();
    int64_t start = 0;
    for (int64_t p = owner; p < out_.count && out_.offsets[p] < last; ++p) {
      const auto [top, bottom] = lines_of(p, first, last);
      if (top == bottom) continue;
      const Box& box = out_.boxes[p];
      const int64_t height = layer_.rows.span(bottom - top), columns = layer_.columns.span(box.width);
      const int64_t row = layer_.rows.start(box.top + top), left = layer_.columns.start(box.left);
      find_lines(p, row, height, left, columns, pitch, &table.cells[start]);
      for (int64_t y = top; y < bottom; ++y) {
        const int64_t at = start + (y - top) * layer_.rows.stride * pitch, line = out_.offsets[p] + y * box.width;
        const int64_t end = std::min<int64_t>(last - line, box.width);
        for (int64_t x = std::max<int64_t>(first - line, 0); x < end; ++x)
          table.rows.push_back(at + x * layer_.columns.stride);
      }
      start += height * pitch;
    }
    while (table.rows.size() % multiple) table.rows.push_back(table.rows.back());
  }

 protected:
  // Puts pointers to those cells of window p that lie in row y, columns [left, left + columns), in their places.
  virtual void overlay(int64_t p, int64_t y, int64_t left, int64_t columns, const T** cells) const = 0;

 private:
  // Of the outputs [first, last) those of window p: its rows, half-open.
  Pair lines_of(int64_t p, int64_t first, int64_t last) const {
    const int64_t width = out_.boxes[p].width;
    const int64_t from = std::max(first, out_.offsets[p]) - out_.offsets[p];
    const int64_t to = std::min(last, out_.offsets[p + 1]) - out_.offsets[p];
    if (from >= to) return {0, 0};
    return {from / width, (to - 1) / width + 1};
  }

  void find_taps(CellTable<T>& table, int64_t pitch) const {
    const Axis &down = layer_.rows, &right = layer_.columns;
    const int64_t steps = right.stride / right.dilation;  // to the tap that reads the next output's cell
    const int64_t shared = right.stride % right.dilation ? 0 : std::max<int64_t>(right.kernel - steps, 0);
    table.pitch = pitch;
    table.taps.clear();
    table.fresh_taps.clear();
    for (int64_t ky = 0; ky < down.kernel; ++ky)
      for (int64_t kx = 0; kx < right.kernel; ++kx) {
        table.taps.push_back(ky * down.dilation * pitch + kx * right.dilation);
        if (kx >= shared) table.fresh_taps.push_back(table.taps.back());
      }
  }

  const Frames<T>& frames_;
  const Places out_;
  const Sliding layer_;
};

// Cells of windows [cells, C] that stand side by side in memory.
template <class T>
struct WindowCells {
  Places at;
  const T* values;
  int64_t stride;  // from a cell to the next

  // Pointers to those of the cells of row y in columns [left, left + columns) that window p has, in their places.
  void put(int64_t p, int64_t y, int64_t left, int64_t columns, const T** cells) const {
    const Box& box = at.boxes[p];
    if (y < box.top || y >= box.bottom()) return;
    const T* line = values + (at.offsets[p] + (y - box.top) * box.width) * stride;
    const int64_t last = std::min(box.right(), left + columns);
    for (int64_t x = std::max<int64_t>(box.left, left); x < last; ++x) cells[x - left] = line + (x - box.left) * stride;
  }
};

template <class T>
class WindowReads final : public CellReads<T> {
 public:
  WindowReads(const WindowCells<T>& windows, const Frames<T>& frames, const Places& out, const Sliding& layer)
      : CellReads<T>(frames, out, layer), windows_(windows) {}

 protected:
  void overlay(int64_t p, int64_t y, int64_t left, int64_t columns, const T** cells) const override {
    windows_.put(p, y, left, columns, cells);
  }

 private:
  const WindowCells<T> windows_;
};

}  // namespace zfkernels::cpu
