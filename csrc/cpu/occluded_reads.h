// The pixels that occluded_conv2d reads where each box has a fill or a mask of its own.
#pragma once

#include <algorithm>
#include <optional>

#include "places.h"
#include "tensor_view.h"
#include "window_reads.h"

namespace zfkernels::cpu {

using OccludedArguments = zfkernels::OccludedArguments<int64_t>;

// What all boxes show: [C], or an image each.
template <class T>
struct Shown {
  Shown(const Tensor& fill, const View<const T>& images)
      : held(fill.dim() == 4 ? with_contiguous_cells(fill) : torch::stable::contiguous(fill)), view(images) {
    if (fill.dim() == 4) {
      view = read<T>(held);
    } else {
      view.data = held.const_data_ptr<T>();
      view.stride = {};
    }
  }

  const Tensor held;
  View<const T> view;
};

// Pixels with a fill or a mask of its own for each box.
template <class T>
class OccludedReads final : public CellReads<T> {
 public:
  OccludedReads(const OccludedArguments& given, const Shown<T>* shared, const Places& boxes, const Places& out,
                const Frames<T>& images)
      : CellReads<T>(images, out, given.layer), boxes_(boxes), index_(given.image.const_data_ptr<int64_t>()) {
    if (shared) shown_ = &shared->view;
    if (given.fill.dim() == 2) {
      fill_ = torch::stable::contiguous(given.fill);
      fills_ = fill_->template const_data_ptr<T>();
    }
    if (given.fill_boxes)
      fill_at_.emplace(*given.fill_boxes, given.fill_offsets.value(), fill_.value().size(0), "fill_boxes",
                       "fill_offsets");
    if (given.mask) {
      mask_ = torch::stable::contiguous(*given.mask);
      mask_at_.emplace(given.mask_boxes.value(), given.mask_offsets.value(), mask_->numel(), "mask_boxes",
                       "mask_offsets");
      masked_ = mask_->template const_data_ptr<bool>();
    }
  }

 protected:
  void overlay(int64_t p, int64_t y, int64_t left, int64_t columns, const T** cells) const override {
    const Box& box = boxes_.boxes[p];
    if (y < box.top || y >= box.bottom()) return;
    const int64_t last = std::min(box.right(), left + columns);
    for (int64_t x = std::max<int64_t>(box.left, left); x < last; ++x) {
      if (mask_at_) {
        const int64_t cell = find_cell(mask_at_->get(), p, y, x);
        if (cell < 0 || !masked_[cell]) continue;
      }
      if (shown_) {
        cells[x - left] = shown_->at(index_[p], 0, y, x);
      } else if (const int64_t cell = fill_at_ ? find_cell(fill_at_->get(), p, y, x) : p; cell >= 0) {
        cells[x - left] = fills_ + cell * this->channels();
      }
    }
  }

 private:
  static int64_t find_cell(const Places& at, int64_t p, int64_t y, int64_t x) {
    const Box& box = at.boxes[p];
    return box.has(y, x) ? at.offsets[p] + (y - box.top) * box.width + x - box.left : -1;
  }

  const Places boxes_;
  const int64_t* const index_;
  const View<const T>* shown_ = nullptr;
  std::optional<Tensor> fill_, mask_;
  std::optional<HeldPlaces> fill_at_, mask_at_;
  const T* fills_ = nullptr;  // [P or cells, C]
  const bool* masked_ = nullptr;
};

}  // namespace zfkernels::cpu
