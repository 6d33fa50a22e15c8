// window_reduce: the sum or the maximum over a whole frame with a window's cells in place of the frame's.
//
//   out[p, c] = sum (max) over y, x of cell(p, c, y, x), a cell being that of window p where it has one, else that of
//   frame image[p], zero without frames.
//
// What lies outside the box comes from running sums (maxima) of the frame, made once for each image: of the whole rows
// above and below the box, and of each of its rows the cells before and behind it. Nothing is subtracted: no digit is
// lost, and an infinite value inside the box does not matter.
#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "parallel.h"
#include "python_call.h"
#include "window_inputs.h"

#define ZFK_LOOPS "window_reduce_loops.h"
#include "for_each_isa.h"

namespace zfkernels::cpu {
namespace {

// Of cells that hold T; sums are Wide<T>.
template <class T>
struct Reduction {
  using Sum = Wide<T>;
  bool max;
  int64_t channels;

  Sum nothing() const { return max ? -std::numeric_limits<Sum>::infinity() : Sum(0); }
  template <class U>
  void add(Sum* to, const Sum* a, const U* b) const {
    ZFK_BEST(combine<U>)(a, b, channels, max, to);
  }
  template <class U>
  void add(Sum* to, const U* cell) const {
    add(to, to, cell);
  }
};

// Running reductions of frames [N, C, H, W]: number i of them is over the first (the last) i cells or rows.
template <class T>
class Running {
  using Sum = Wide<T>;

 public:
  Running(const Tensor& frames, const Reduction<T>& reduction)
      : held_(with_contiguous_cells(frames)),
        frames_(read<T>(held_)),
        reduction_(reduction),
        height_(frames_.size[2]),
        width_(frames_.size[3]),
        before_(frames_.size[0] * height_ * (width_ + 1) * reduction.channels),
        after_(frames_.size[0] * height_ * (width_ + 1) * reduction.channels),
        above_(frames_.size[0] * (height_ + 1) * reduction.channels),
        below_(frames_.size[0] * (height_ + 1) * reduction.channels) {
    for_each_task(frames_.size[0] * height_, [&](int64_t row) { run_cells(row / height_, row % height_); });
    for_each_task(frames_.size[0], [&](int64_t n) { run_rows(n); });
  }

  // Adds to `sum` all cells of frame n outside the box.
  void add_around(int64_t n, const Box& box, Sum* sum) const {
    reduction_.add(sum, above(n, box.top));
    for (int64_t y = box.top; y < box.bottom(); ++y) {
      reduction_.add(sum, before(n, y, box.left));
      reduction_.add(sum, after(n, y, width_ - box.right()));
    }
    reduction_.add(sum, below(n, height_ - box.bottom()));
  }

 private:
  Sum* at(const Buffer<Sum>& of, int64_t row, int64_t length, int64_t i) const {
    return of.get() + (row * (length + 1) + i) * reduction_.channels;
  }
  Sum* before(int64_t n, int64_t y, int64_t i) const { return at(before_, n * height_ + y, width_, i); }
  Sum* after(int64_t n, int64_t y, int64_t i) const { return at(after_, n * height_ + y, width_, i); }
  Sum* above(int64_t n, int64_t i) const { return at(above_, n, height_, i); }
  Sum* below(int64_t n, int64_t i) const { return at(below_, n, height_, i); }
  void clear(Sum* cell) const { std::fill(cell, cell + reduction_.channels, reduction_.nothing()); }

  void run_cells(int64_t n, int64_t y) const {
    clear(before(n, y, 0));
    clear(after(n, y, 0));
    for (int64_t i = 0; i < width_; ++i) {
      reduction_.add(before(n, y, i + 1), before(n, y, i), frames_.at(n, 0, y, i));
      reduction_.add(after(n, y, i + 1), after(n, y, i), frames_.at(n, 0, y, width_ - 1 - i));
    }
  }

  void run_rows(int64_t n) const {
    clear(above(n, 0));
    clear(below(n, 0));
    for (int64_t i = 0; i < height_; ++i) {
      reduction_.add(above(n, i + 1), above(n, i), before(n, i, width_));
      reduction_.add(below(n, i + 1), below(n, i), before(n, height_ - 1 - i, width_));
    }
  }

  const Tensor held_;
  const View<const T> frames_;
  const Reduction<T> reduction_;
  const int64_t height_, width_;
  const Buffer<Sum> before_, after_;  // [N, H, W + 1, C]
  const Buffer<Sum> above_, below_;   // [N, H + 1, C]
};

template <class T>
Tensor reduce(const Tensor& values, const Places& at, const Tensor& image, const std::optional<Tensor>& frames,
              const Pair& frame, bool max) {
  const Tensor cells = with_contiguous_cells(values);
  const Reduction<T> reduction{max, values.size(1)};
  std::optional<Running<T>> around;
  if (frames) {
    check_frames(*frames, values.size(1), frame);
    check_images(image, at.count, frames->size(0));
    around.emplace(*frames, reduction);
  }
  using Sum = Wide<T>;
  const std::vector<Sum> zeros(values.size(1), Sum(0));
  const Tensor out = empty_cells(at.count, values.size(1), wide_type(values));
  Sum* const sums = out.mutable_data_ptr<Sum>();
  const T* const from = cells.const_data_ptr<T>();
  const int64_t* const index = image.const_data_ptr<int64_t>();
  for_each_task(at.count, [&](int64_t p) {
    Sum* const sum = sums + p * reduction.channels;
    std::fill(sum, sum + reduction.channels, reduction.nothing());
    for (int64_t i = at.offsets[p]; i < at.offsets[p + 1]; ++i) reduction.add(sum, from + i * cells.stride(0));
    if (around)
      around->add_around(index[p], at.boxes[p], sum);
    else if (at.boxes[p].cells() < frame.area())
      reduction.add(sum, zeros.data());
  });
  return torch::stable::to(out, values.scalar_type());
}

}  // namespace

Tensor window_reduce(Tensor values, Tensor boxes, Tensor offsets, Tensor image, std::optional<Tensor> frames,
                     Ints frame, bool maximum) {
  const HeldPlaces held(boxes, offsets, values.size(0));
  const Places at = held.get();
  const Pair size = to_pair<int64_t>(frame);
  for (int64_t p = 0; p < at.count; ++p) {
    const Box& box = at.boxes[p];
    STD_TORCH_CHECK(box.top >= 0 && box.left >= 0 && box.bottom() <= size[0] && box.right() <= size[1],
                    "expected boxes inside the frame ", size[0], " x ", size[1], ", got one at ", box.top, ", ",
                    box.left);
  }
  const auto run = ZFK_FOR_DTYPE(values, reduce);
  return run(values, at, torch::stable::contiguous(image), frames, size, maximum);
}

}  // namespace zfkernels::cpu

ZFK_CPU_KERNEL(window_reduce);
