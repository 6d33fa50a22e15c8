// What the outputs of a layer on windows read: for each output the cells under its taps, whether they lie in the
// window, in the frame around it or beyond.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sliding.h"
#include "tensor_view.h"

namespace zfkernels::cpu {

// values [P, C, h, w], origins int32 [P, 2], image int64 [P], frames [N, C, H, W], out_origins int32 [P, 2].
struct WindowArguments {
  Tensor values, origins, image, frames, out_origins;
};

// The tensor itself if the channels of a cell are neighbours in memory, else a copy.
inline Tensor with_contiguous_cells(const Tensor& tensor) {
  if (tensor.size(1) <= 1 || tensor.stride(1) == 1) return tensor;
  return torch::stable::contiguous(tensor, torch::headeronly::MemoryFormat::ChannelsLast);
}

// Throws unless `image` holds `count` numbers below `images`: what guards the memory of the frames.
inline void check_image(const Tensor& image, int64_t count, int64_t images) {
  STD_TORCH_CHECK(image.numel() == count, "expected image [", count, "], got ", image.numel());
  const int64_t* index = image.const_data_ptr<int64_t>();
  for (int64_t p = 0; p < count; ++p)
    STD_TORCH_CHECK(index[p] >= 0 && index[p] < images, "expected image in [0, ", images, "), got ", index[p]);
}

// Throws unless `origins` is [count, 2].
inline void check_origins(const Tensor& origins, int64_t count) {
  STD_TORCH_CHECK(origins.dim() == 2 && origins.size(0) == count && origins.size(1) == 2, "expected origins [", count,
                  ", 2], got ", origins.numel(), " numbers");
}

template <class T>
class WindowReads {
 public:
  // `outside` is the value of all cells beyond the frame.
  WindowReads(const WindowArguments& tensors, const Pair& out_size, const Sliding& layer, T outside)
      : values_(with_contiguous_cells(tensors.values)),
        frames_(with_contiguous_cells(tensors.frames)),
        origins_(torch::stable::contiguous(tensors.origins)),
        image_(torch::stable::contiguous(tensors.image)),
        out_origins_(torch::stable::contiguous(tensors.out_origins)),
        window_(read<T>(values_)),
        frame_(read<T>(frames_)),
        origin_(origins_.const_data_ptr<int32_t>()),
        index_(image_.const_data_ptr<int64_t>()),
        out_origin_(out_origins_.const_data_ptr<int32_t>()),
        out_size_(out_size),
        layer_(layer),
        columns_((out_size[1] - 1) * layer.stride[1] + (layer.kernel[1] - 1) * layer.dilation[1] + 1),
        outside_(window_.size[1], outside) {
    STD_TORCH_CHECK(frame_.size[1] == window_.size[1], "expected frames of ", window_.size[1], " channels, got ",
                    frame_.size[1]);
    check_origins(origins_, windows());
    check_origins(out_origins_, windows());
    check_image(image_, windows(), frame_.size[0]);
    const int64_t steps = layer.stride[1] / layer.dilation[1];  // to the tap that reads the next output's cell
    const int64_t shared = layer.stride[1] % layer.dilation[1] ? 0 : std::max<int64_t>(layer.kernel[1] - steps, 0);
    for (int64_t ky = 0; ky < layer.kernel[0]; ++ky)
      for (int64_t kx = 0; kx < layer.kernel[1]; ++kx) {
        taps_.push_back(ky * layer.dilation[0] * columns_ + kx * layer.dilation[1]);
        if (kx >= shared) fresh_taps_.push_back(taps_.back());
      }
  }

  int64_t windows() const { return window_.size[0]; }
  int64_t channels() const { return window_.size[1]; }
  int64_t outputs() const { return windows() * out_size_[0] * out_size_[1]; }

  // Distance, in a table made by `find`, from the first cell that an output reads to each of its taps.
  const std::vector<int32_t>& taps() const { return taps_; }

  // Those of them that the output to the left, if there is one, does not read.
  const std::vector<int32_t>& fresh_taps() const { return fresh_taps_; }

  // Fills `table` with pointers to the cells that the outputs [first, last) read and `rows` with the place of each
  // output's first cell in it; the last place is repeated up to a multiple of `multiple`.
  void find(int64_t first, int64_t last, int64_t multiple, std::vector<const T*>& table,
            std::vector<int32_t>& rows) const {
    const int64_t window = out_size_[0] * out_size_[1];
    table.clear();
    rows.clear();
    for (int64_t p = first / window; p * window < last; ++p) {
      const int64_t from = std::max<int64_t>(first - p * window, 0), to = std::min(last - p * window, window);
      const int64_t top = from / out_size_[1], bottom = (to - 1) / out_size_[1];  // rows of outputs, both included
      const int64_t height = (bottom - top) * layer_.stride[0] + (layer_.kernel[0] - 1) * layer_.dilation[0] + 1;
      const int64_t start = table.size();
      table.resize(start + height * columns_);
      find_region(p, (out_origin_[2 * p] + top) * layer_.stride[0] - layer_.padding[0],
                  out_origin_[2 * p + 1] * layer_.stride[1] - layer_.padding[1], height, &table[start]);
      for (int64_t y = top; y <= bottom; ++y) {
        const int64_t row = start + (y - top) * layer_.stride[0] * columns_;
        const int64_t left = std::max<int64_t>(from - y * out_size_[1], 0);
        const int64_t right = std::min(to - y * out_size_[1], out_size_[1]);
        for (int64_t x = left; x < right; ++x) rows.push_back(row + x * layer_.stride[1]);
      }
    }
    while (rows.size() % multiple) rows.push_back(rows.back());
  }

 private:
  // Pointers to `rows` x `columns_` cells around window p, the first of them at (top, left).
  void find_region(int64_t p, int64_t top, int64_t left, int64_t rows, const T** cells) const {
    const int64_t row = origin_[2 * p], column = origin_[2 * p + 1];
    for (int64_t y = top; y < top + rows; ++y, cells += columns_) {
      std::fill(cells, cells + columns_, outside_.data());
      if (y >= 0 && y < frame_.size[2]) fill(cells, left, 0, frame_.size[3], frame_.at(index_[p], 0, y, 0), frame_);
      if (y >= row && y < row + window_.size[2])
        fill(cells, left, column, column + window_.size[3], window_.at(p, 0, y - row, -column), window_);
    }
  }

  // Of a row of cells that starts at column `left`, those in the columns [first, last) of a view.
  void fill(const T** cells, int64_t left, int64_t first, int64_t last, const T* line,
            const View<const T>& view) const {
    for (int64_t x = std::max(first, left); x < std::min(last, left + columns_); ++x)
      cells[x - left] = line + x * view.stride[3];
  }

  const Tensor values_, frames_, origins_, image_, out_origins_;
  const View<const T> window_, frame_;
  const int32_t* const origin_;
  const int64_t* const index_;
  const int32_t* const out_origin_;
  const Pair out_size_;
  const Sliding layer_;
  const int64_t columns_;  // of the region that the outputs of a window read
  std::vector<int32_t> taps_, fresh_taps_;
  const std::vector<T> outside_;  // [C]
};

}  // namespace zfkernels::cpu
