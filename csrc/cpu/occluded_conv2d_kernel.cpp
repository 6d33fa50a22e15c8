// occluded_conv2d: the first convolution of an occlusion sweep.
//
//   out[i, o] = bias[o] + sum over c, ky, kx of weight[o, c, ky, kx] * pixel(p, c, y * sy - py + ky * dy,
//   x * sx - px + kx * dx) with (p, y, x) the window and the place of output i; then ReLU if asked. A pixel is the fill
//   inside boxes[p], but where a mask leaves it out, else that of image[p], zero outside the image.
//
// Boxes that all show the same share most of their sums: occluded_squares.h. With a fill or a mask of its own for each
// box nothing is shared: each output reads its pixels through a table, as those of window_conv2d do: occluded_reads.h.
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "conv_tile.h"
#include "occluded_loops.h"
#include "python_call.h"
#include "window_inputs.h"
#include "winograd_transforms.h"

#define ZFK_LOOPS "occluded_conv2d_loops.h"
#include "for_each_isa.h"
#include "occluded_reads.h"
#include "occluded_squares.h"
#include "tile_conv2d.h"

namespace zfkernels::cpu {
namespace {

// out [outputs, C_out]: squares that all show the same.
template <class T>
void convolve_shared(const OccludedArguments& given, std::vector<Square> squares, const Tensor& out) {
  const Tensor pixels = with_contiguous_cells(given.images);
  const View<const T> from = read<T>(pixels), filters = read<T>(given.weight);
  const Shown<T> shown(given.fill, from);
  const std::optional<Tensor> offsets = contiguous(given.bias);
  OccludedConv2d<T>(from, shown.view, filters, offsets ? offsets->const_data_ptr<T>() : nullptr, given.layer,
                    given.groups, given.relu, out.mutable_data_ptr<T>(),
                    out.numel() * int64_t(sizeof(T)) > cached_bytes(kMostCached))
      .run(std::move(squares));
}

// The part of a box that lies inside the image.
Box clipped(const Box& box, const Pair& size) {
  const auto clip = [](int64_t first, int64_t length, int64_t end) {
    const int64_t from = std::clamp<int64_t>(first, 0, end), to = std::clamp<int64_t>(first + length, from, end);
    return std::pair(int32_t(from), int32_t(to - from));
  };
  const auto [top, height] = clip(box.top, box.height, size[0]);
  const auto [left, width] = clip(box.left, box.width, size[1]);
  return height > 0 && width > 0 ? Box{top, left, height, width} : Box{};
}

template <class T>
void convolve(const OccludedArguments& given, const std::vector<Box>& hidden, const Places& out, const Tensor& result) {
  const int64_t* index = given.image.const_data_ptr<int64_t>();
  if (given.fill.dim() != 2 && !given.mask) {
    std::vector<Square> squares;
    for (int64_t p = 0; p < out.count; ++p) squares.push_back({index[p], hidden[p], out.boxes[p], out.offsets[p]});
    return convolve_shared<T>(given, std::move(squares), result);
  }
  std::optional<Shown<T>> shared;
  const Tensor pixels = with_contiguous_cells(given.images);
  if (given.fill.dim() != 2) shared.emplace(given.fill, read<T>(pixels));
  const Frames<T> images(pixels, given.image, out.count, given.images.size(1), size_of<int64_t>(given.images), T(0));
  const Places boxes{hidden.data(), nullptr, out.count};
  const OccludedReads<T> reads(given, shared ? &*shared : nullptr, boxes, out, images);
  convolve_reads(reads, given.weight, given.bias, given.groups, given.relu, result.mutable_data_ptr<T>());
}

Tensor run(OccludedArguments given) {
  check_occluded(given);
  const HeldPlaces held(given.out_boxes, given.out_offsets, given.cells, "out_boxes", "out_offsets");
  const Places out = held.get();
  given.image = torch::stable::contiguous(given.image);
  check_images(given.image, out.count, given.images.size(0));
  const Tensor boxes = torch::stable::contiguous(given.boxes);
  const Box* const box = reinterpret_cast<const Box*>(boxes.const_data_ptr<int32_t>());
  std::vector<Box> hidden;
  for (int64_t p = 0; p < out.count; ++p) hidden.push_back(clipped(box[p], size_of<int64_t>(given.images)));
  const Tensor result = empty_cells(given.images, given.cells, given.weight.size(0));
  const auto of = is_double(given.images) ? convolve<double> : convolve<float>;
  of(given, hidden, out, result);
  return result;
}

}  // namespace

Tensor occluded_conv2d(Tensor images, Tensor weight, std::optional<Tensor> bias, Tensor boxes, Tensor image,
                       Tensor fill, std::optional<Tensor> fill_boxes, std::optional<Tensor> fill_offsets,
                       std::optional<Tensor> mask, std::optional<Tensor> mask_boxes, std::optional<Tensor> mask_offsets,
                       Tensor out_boxes, Tensor out_offsets, Tensor owner, int64_t cells, Ints stride, Ints padding,
                       Ints dilation, int64_t groups, bool relu) {
  const auto dtype = images.scalar_type();
  if (is_bfloat16(images)) {  // few numbers go in: they are computed with as float, and rounded once
    const auto widened = [](const Tensor& tensor) { return torch::stable::to(tensor, ScalarType::Float); };
    images = widened(images), weight = widened(weight), fill = widened(fill);
    if (bias) bias = widened(*bias);
  }
  const Tensor result = run({images, weight, bias, boxes, image, fill, fill_boxes, fill_offsets, mask, mask_boxes,
                             mask_offsets, out_boxes, out_offsets, owner, cells,
                             to_sliding(size_of<int64_t>(weight), stride, padding, dilation), groups, relu});
  return torch::stable::to(result, dtype);
}

}  // namespace zfkernels::cpu

ZFK_CPU_KERNEL(occluded_conv2d);
