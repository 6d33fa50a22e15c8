// Geometry of convolutions, poolings and windows in integers, the same for the CPU's kernels and for CUDA's, there on
// the host and on the device. I is the kernels' own integer: int64_t on the CPU, int on GPUs.
#pragma once

#include <cstdint>
#include <type_traits>

#if defined(__CUDACC__)
#define ZFK_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define ZFK_HOST_DEVICE inline
#endif

namespace zfkernels {

// a / b for b > 0, rounded down and up, and what floor_div leaves.
template <class A, class B>
ZFK_HOST_DEVICE constexpr std::common_type_t<A, B> floor_div(A a, B b) {
  return a / b - (a % b < 0);
}
template <class A, class B>
ZFK_HOST_DEVICE constexpr std::common_type_t<A, B> ceil_div(A a, B b) {
  return a / b + (a % b > 0);
}
template <class A, class B>
ZFK_HOST_DEVICE constexpr std::common_type_t<A, B> floor_mod(A a, B b) {
  return (a % b + b) % b;
}
// The smallest multiple of b that is >= a.
template <class A, class B>
ZFK_HOST_DEVICE constexpr std::common_type_t<A, B> round_up(A a, B b) {
  return ceil_div(a, b) * b;
}

// (rows, columns); [axis] with axis 0 or 1 in this order.
template <class I>
struct PairOf {
  I rows, columns;

  ZFK_HOST_DEVICE I& operator[](int axis) { return axis == 0 ? rows : columns; }
  ZFK_HOST_DEVICE const I& operator[](int axis) const { return axis == 0 ? rows : columns; }
  ZFK_HOST_DEVICE bool operator==(const PairOf& other) const { return rows == other.rows && columns == other.columns; }
  ZFK_HOST_DEVICE I area() const { return rows * columns; }
};

// A window that slides along one axis, in cells. Output number i of the layer sees `kernel` cells, the taps, `dilation`
// cells apart from start(i) on.
template <class I>
struct AxisOf {
  I kernel, stride, padding, dilation;

  // Cells from the first tap to the last.
  ZFK_HOST_DEVICE I extent() const { return (kernel - 1) * dilation + 1; }
  // Cells from the first to the last that `count` neighbouring outputs see.
  ZFK_HOST_DEVICE I span(I count) const { return (count - 1) * stride + extent(); }
  // The cell under the first tap of an output, possibly in the padding.
  ZFK_HOST_DEVICE I start(I output) const { return output * stride - padding; }

  // Taps [first_inside, end_inside) of an output that starts at `start` lie inside an axis of `size` cells. Where none
  // does, the end is not above the first.
  ZFK_HOST_DEVICE I first_inside(I start) const { return start < 0 ? ceil_div(-start, dilation) : I(0); }
  ZFK_HOST_DEVICE I end_inside(I start, I size) const {
    if (start >= size) return 0;
    const I taps = ceil_div(size - start, dilation);
    return taps < kernel ? taps : kernel;
  }

  // The outputs [first_over, last_over] may see a cell: it lies between their first tap and their last.
  ZFK_HOST_DEVICE I first_over(I cell) const { return floor_div(cell + padding - extent() + stride, stride); }
  ZFK_HOST_DEVICE I last_over(I cell) const { return floor_div(cell + padding, stride); }

  // Outputs of a pooling along an axis of `size` cells. With `ceil_mode` windows may hang over the far border, but none
  // starts beyond it.
  int64_t outputs(int64_t size, bool ceil_mode) const {
    const int64_t room = size + 2 * padding - extent();
    const int64_t count = (ceil_mode ? ceil_div(room, stride) : floor_div(room, stride)) + 1;
    return ceil_mode && (count - 1) * stride >= size + padding ? count - 1 : count;
  }
};

// A convolution or a pooling; [axis] as of PairOf.
template <class I>
struct SlidingOf {
  AxisOf<I> rows, columns;

  ZFK_HOST_DEVICE const AxisOf<I>& operator[](int axis) const { return axis == 0 ? rows : columns; }
  ZFK_HOST_DEVICE I taps() const { return rows.kernel * columns.kernel; }
};

// A window of a layer: rows [top, top + height), columns [left, left + width).
struct Box {
  int32_t top, left, height, width;

  ZFK_HOST_DEVICE int64_t bottom() const { return int64_t(top) + height; }
  ZFK_HOST_DEVICE int64_t right() const { return int64_t(left) + width; }
  ZFK_HOST_DEVICE int64_t cells() const { return int64_t(height) * width; }
  template <class I>
  ZFK_HOST_DEVICE bool has(I y, I x) const {
    using Unsigned = std::make_unsigned_t<I>;
    return Unsigned(y - top) < Unsigned(height) && Unsigned(x - left) < Unsigned(width);
  }
};

// What average pooling divides the sum of an output by: a given number, or the cells of its pooling window that lie
// inside the frame, or inside the frame and its padding.
struct Divisor {
  bool count_padding;
  int64_t fixed;  // 0: the cells

  // Of the output whose first cell is (row, column).
  template <class Number, class I>
  ZFK_HOST_DEVICE Number of(I row, I column, const SlidingOf<I>& pool, const PairOf<I>& frame) const {
    if (fixed) return Number(fixed);
    return Number(counted(row, pool.rows, frame.rows) * counted(column, pool.columns, frame.columns));
  }

 private:
  template <class I>
  ZFK_HOST_DEVICE I counted(I first, const AxisOf<I>& axis, I length) const {
    const I room = count_padding ? axis.padding : 0;
    const I end = first + axis.kernel < length + room ? first + axis.kernel : length + room;
    return end - (first > -room ? first : -room);
  }
};

}  // namespace zfkernels
