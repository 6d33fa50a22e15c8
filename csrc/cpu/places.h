// Where the cells of windows lie: each window is a box of a layer, its cells stand row by row behind those of
// the window before it.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sliding.h"
#include "tensor_view.h"

namespace zfkernels::cpu {

// Of a layer: rows [top, top + height), columns [left, left + width).
struct Box {
  int32_t top, left, height, width;

  int64_t bottom() const { return int64_t(top) + height; }
  int64_t right() const { return int64_t(left) + width; }
  int64_t cells() const { return int64_t(height) * width; }
};

// Boxes and offsets of windows, in memory that somebody else owns.
struct Places {
  const Box* boxes;        // [count]
  const int64_t* offsets;  // [count + 1] the first cell of each, and how many there are
  int64_t count;

  int64_t cells() const { return offsets[count]; }
  // The window that a cell belongs to.
  int64_t owner(int64_t cell) const { return std::upper_bound(offsets, offsets + count + 1, cell) - offsets - 1; }
};

inline void check_dtype(const Tensor& tensor, torch::headeronly::ScalarType dtype, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, "expected ", name, " of another dtype");
}

// Throws unless `image` holds `count` numbers below `images`: what guards the memory of the frames.
inline void check_image(const Tensor& image, int64_t count, int64_t images) {
  STD_TORCH_CHECK(image.numel() == count, "expected image [", count, "], got ", image.numel());
  const int64_t* index = image.const_data_ptr<int64_t>();
  for (int64_t p = 0; p < count; ++p)
    STD_TORCH_CHECK(index[p] >= 0 && index[p] < images, "expected image in [0, ", images, "), got ", index[p]);
}

// The places that the tensors boxes int32 [P, 4] and offsets int64 [P + 1] hold, checked: what guards the memory of the
// values.
class HeldPlaces {
 public:
  HeldPlaces(const Tensor& boxes, const Tensor& offsets, int64_t cells)
      : boxes_(torch::stable::contiguous(boxes)), offsets_(torch::stable::contiguous(offsets)) {
    check_dtype(boxes_, torch::headeronly::ScalarType::Int, "boxes");
    check_dtype(offsets_, torch::headeronly::ScalarType::Long, "offsets");
    STD_TORCH_CHECK(boxes_.dim() == 2 && boxes_.size(1) == 4, "expected boxes [P, 4], got ", boxes_.numel(),
                    " numbers");
    STD_TORCH_CHECK(offsets_.numel() == boxes_.size(0) + 1, "expected offsets [", boxes_.size(0) + 1, "], got ",
                    offsets_.numel());
    const Places places = get();
    int64_t first = 0;
    for (int64_t p = 0; p < places.count; first += places.boxes[p++].cells()) {
      const Box& box = places.boxes[p];
      STD_TORCH_CHECK(box.height >= 0 && box.width >= 0, "expected boxes of no negative size, got ", box.height, " x ",
                      box.width);
      STD_TORCH_CHECK(places.offsets[p] == first, "expected offsets that fit the boxes, got ", places.offsets[p],
                      " for ", first);
    }
    STD_TORCH_CHECK(places.cells() == first && first == cells, "expected offsets that end at ", first, " of ", cells,
                    " cells, got ", places.cells());
  }

  Places get() const {
    return {reinterpret_cast<const Box*>(boxes_.const_data_ptr<int32_t>()), offsets_.const_data_ptr<int64_t>(),
            boxes_.size(0)};
  }

 private:
  const Tensor boxes_, offsets_;
};

}  // namespace zfkernels::cpu
