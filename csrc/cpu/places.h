// Where the cells of windows lie: each window is a box of a layer, its cells stand row by row behind those of
// the window before it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../common/windows.h"

namespace zfkernels::cpu {

// Boxes and offsets of windows, in memory that somebody else owns.
struct Places {
  const Box* boxes;        // [count]
  const int64_t* offsets;  // [count + 1] the first cell of each, and how many there are
  int64_t count;

  int64_t cells() const { return offsets[count]; }
  // The window that a cell belongs to.
  int64_t owner(int64_t cell) const { return std::upper_bound(offsets, offsets + count + 1, cell) - offsets - 1; }
};

// Throws unless `image` holds `count` numbers below `images`: what guards the memory of the frames.
inline void check_images(const Tensor& image, int64_t count, int64_t images) {
  check_image(image, count);
  const int64_t* index = image.const_data_ptr<int64_t>();
  for (int64_t p = 0; p < count; ++p)
    STD_TORCH_CHECK(index[p] >= 0 && index[p] < images, "expected image in [0, ", images, "), got ", index[p]);
}

// The places that the tensors boxes int32 [P, 4] and offsets int64 [P + 1] hold, checked: what guards the memory of the
// values.
class HeldPlaces {
 public:
  HeldPlaces(const Tensor& boxes, const Tensor& offsets, int64_t cells, const char* name = "boxes",
             const char* offsets_name = "offsets")
      : boxes_(torch::stable::contiguous(boxes)), offsets_(torch::stable::contiguous(offsets)) {
    check_places(boxes, offsets, name, offsets_name);
    const Places places = get();
    int64_t first = 0;
    for (int64_t p = 0; p < places.count; first += places.boxes[p++].cells()) {
      const Box& box = places.boxes[p];
      STD_TORCH_CHECK(box.height >= 0 && box.width >= 0, "expected ", name, " of no negative size, got ", box.height,
                      " x ", box.width);
      STD_TORCH_CHECK(places.offsets[p] == first, "expected ", offsets_name, " that fit the boxes, got ",
                      places.offsets[p], " for ", first);
    }
    STD_TORCH_CHECK(places.cells() == first && first == cells, "expected ", offsets_name, " that end at ", first,
                    " of ", cells, " cells, got ", places.cells());
  }

  Places get() const {
    return {reinterpret_cast<const Box*>(boxes_.const_data_ptr<int32_t>()), offsets_.const_data_ptr<int64_t>(),
            boxes_.size(0)};
  }

 private:
  const Tensor boxes_, offsets_;
};

}  // namespace zfkernels::cpu
