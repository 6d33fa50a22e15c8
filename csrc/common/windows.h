// The arguments of ops on windows, and what is checked of them on any device. Boxes, offsets and images of windows on a
// GPU stay there: their numbers are checked by whoever reads them.
#pragma once

#include <optional>
#include <vector>

#include "tensors.h"

namespace zfkernels {

// values [cells, C], boxes int32 [P, 4], offsets int64 [P + 1], image int64 [P], frames [N, C, H, W], frame (H, W);
// out_boxes int32 [P, 4], out_offsets int64 [P + 1], owner int32 [outputs] for `cells` outputs.
template <class I>
struct WindowArguments {
  Tensor values, boxes, offsets, image;
  std::optional<Tensor> frames;
  PairOf<I> frame;
  Tensor out_boxes, out_offsets, owner;
  int64_t cells;
};

// boxes int32 [P, 4] and offsets int64 [P + 1].
inline void check_places(const Tensor& boxes, const Tensor& offsets, const char* name, const char* offsets_name) {
  check_dtype(boxes, ScalarType::Int, name);
  check_dtype(offsets, ScalarType::Long, offsets_name);
  STD_TORCH_CHECK(boxes.dim() == 2 && boxes.size(1) == 4, "expected ", name, " [P, 4], got ", boxes.numel(),
                  " numbers");
  STD_TORCH_CHECK(offsets.numel() == boxes.size(0) + 1, "expected ", offsets_name, " [", boxes.size(0) + 1, "], got ",
                  offsets.numel());
}
// image int64 [P] of P windows.
inline void check_image(const Tensor& image, int64_t windows) {
  check_dtype(image, ScalarType::Long, "image");
  STD_TORCH_CHECK(image.numel() == windows, "expected image [", windows, "], got ", image.numel());
}
// out_boxes of as many windows as there are boxes.
inline void check_out_boxes(const Tensor& out_boxes, int64_t windows) {
  STD_TORCH_CHECK(out_boxes.size(0) == windows, "expected out_boxes [", windows, ", 4], got ", out_boxes.size(0));
}
// frames [N, C, H, W] around windows of `channels` channels.
template <class I>
void check_frames(const Tensor& frames, int64_t channels, const PairOf<I>& size) {
  STD_TORCH_CHECK(
      frames.dim() == 4 && frames.size(1) == channels && frames.size(2) == size.rows && frames.size(3) == size.columns,
      "expected frames of ", channels, " channels, ", size.rows, " x ", size.columns);
}

// The sources of window_gather: of each its values, boxes, offsets and, or none, rows.
inline void check_sources(const std::vector<Tensor>& values, const std::vector<Tensor>& boxes,
                          const std::vector<Tensor>& offsets, const std::vector<std::optional<Tensor>>& rows,
                          const std::optional<Tensor>& frames) {
  STD_TORCH_CHECK(frames || !values.empty(), "expected sources or frames, got neither");
  STD_TORCH_CHECK(boxes.size() == values.size() && offsets.size() == values.size() && rows.size() == values.size(),
                  "expected boxes, offsets and rows of each source");
}
// One of them, of `held` windows, for `windows` windows of the result; rows int64 [P].
inline void check_source(const Tensor& values, const std::optional<Tensor>& rows, int64_t held, int64_t channels,
                         int64_t windows) {
  STD_TORCH_CHECK(values.size(1) == channels, "expected sources of ", channels, " channels, got ", values.size(1));
  STD_TORCH_CHECK((rows ? rows->numel() : held) == windows, "expected rows [", windows, "] of each source");
  if (rows) check_dtype(*rows, ScalarType::Long, "rows");
}

// switches uint8 [N, C, Hp, Wp] of a stage whose pooled maps are `frame` large.
inline void check_switches(const std::optional<Tensor>& switches, int64_t channels, const Ints& frame) {
  if (!switches) return;
  check_dtype(*switches, ScalarType::Byte, "switches");
  STD_TORCH_CHECK(switches->dim() == 4 && switches->size(1) == channels && switches->size(2) == frame[0] &&
                      switches->size(3) == frame[1],
                  "expected switches of ", channels, " channels, ", frame[0], " x ", frame[1]);
}

// images [N, C, H, W]; weight [C_out, C / groups, kh, kw], bias [C_out]; boxes int32 [P, 4], image int64 [P]; fill [C],
// [P, C], [N, C, H, W] or, with its boxes and offsets, [cells, C]; mask bool [cells, 1] with its boxes and offsets;
// out_boxes, out_offsets and owner as of WindowArguments.
template <class I>
struct OccludedArguments {
  Tensor images, weight;
  std::optional<Tensor> bias;
  Tensor boxes, image, fill;
  std::optional<Tensor> fill_boxes, fill_offsets, mask, mask_boxes, mask_offsets;
  Tensor out_boxes, out_offsets, owner;
  int64_t cells;
  SlidingOf<I> layer;
  int64_t groups;
  bool relu;
};

template <class I>
void check_occluded(const OccludedArguments<I>& given) {
  const int64_t count = given.boxes.size(0), channels = given.images.size(1), dims = given.fill.dim();
  check_conv2d(given.weight, given.bias, channels, given.groups);
  check_dtype(given.boxes, ScalarType::Int, "boxes");
  STD_TORCH_CHECK(given.boxes.dim() == 2 && given.boxes.size(1) == 4, "expected boxes [P, 4], got ",
                  given.boxes.numel(), " numbers");
  check_image(given.image, count);
  check_out_boxes(given.out_boxes, count);
  if (dims == 4 && !given.fill_boxes) {
    for (int i = 0; i < 4; ++i)
      STD_TORCH_CHECK(given.fill.size(i) == given.images.size(i), "expected fill of the images' shape");
  } else {
    const int64_t fills = given.fill_boxes ? given.fill_boxes->size(0) : dims == 2 ? given.fill.size(0) : count;
    STD_TORCH_CHECK((dims == 1 && !given.fill_boxes) || dims == 2, "expected fill [C], [P, C] or [N, C, H, W]");
    STD_TORCH_CHECK(fills == count, "expected a fill for each of ", count, " boxes, got ", fills);
    STD_TORCH_CHECK(given.fill.size(dims - 1) == channels, "expected fill of ", channels, " channels");
  }
  if (!given.mask) return;
  check_dtype(*given.mask, ScalarType::Bool, "mask");
  STD_TORCH_CHECK(given.mask->dim() == 2 && given.mask->size(1) == 1 && given.mask_boxes.value().size(0) == count,
                  "expected a mask for each of ", count, " boxes");
}

}  // namespace zfkernels
