// max_pool2d_with_switches: each maximum and, in one byte, its place in its pooling window.
//
// Bound by memory: the input is read once, 5 bytes are written for each float of output (F.max_pool2d: 12). Channels
// last: a vector is one output, channels side by side, and the cells of the next output are fetched ahead. Contiguous:
// a vector is neighbouring outputs of one map; the rows that a block of outputs needs are first dealt out by their
// column modulo the stride, with -inf around them, so that the taps of neighbouring outputs lie side by side.
#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

#include "caches.h"
#include "geometry.h"
#include "parallel.h"
#include "python_call.h"
#include "tensor_view.h"

namespace zfkernels::cpu {

// Where the taps of one output that are no padding lie.
struct Taps {
  int64_t down, right;             // from a row to the next, from a column to the next
  int64_t top, bottom, left, end;  // rows and columns of taps
  int64_t columns;                 // of the kernel
  int64_t next, fresh;             // to the next output's taps; the first column of these that is new
};

// The loops of one instruction set: max_pool2d_with_switches_loops.h.
template <class T>
struct PoolLoops {
  int64_t lanes;  // of a vector
  // All channels of one output, whose taps begin at `from`; those of a cell lie side by side.
  void (*pool_cell)(const T* from, const Taps& taps, int64_t channels, T* values, uint8_t* codes);
  // `count` outputs of a row: the taps of the first begin at rows[ky] + taps[kx], those of the others follow.
  void (*pool_row)(const T* const* rows, int64_t top, int64_t bottom, const int64_t* taps, int64_t tap_count,
                   const int32_t* first_code, int64_t count, T* values, uint8_t* codes);
  // Deals `count` elements out to `stride` arrays that are `pitch` apart.
  void (*deal_out)(const T* from, int64_t step, int64_t count, int64_t first, int64_t stride, T* to, int64_t pitch);
};

}  // namespace zfkernels::cpu

#define ZFK_LOOPS "max_pool2d_with_switches_loops.h"
#include "for_each_isa.h"

namespace zfkernels::cpu {
namespace {

constexpr int64_t kThreadTasks = 4;  // neighbouring rows share cells: few tasks, but enough for threads to end together
constexpr int64_t kBlockBytes = int64_t(1) << 15;  // of the rows that a block of outputs needs

template <class T>
void pool_channels_last(const View<const T>& input, const Sliding& layer, const View<T>& values,
                        const View<uint8_t>& codes) {
  const auto pool_cell = ZFK_BEST(kPoolLoops<T>).pool_cell;
  const auto [images, channels, rows, columns] = values.size;
  const int64_t right = layer.columns.stride * input.stride[3], down = layer.rows.stride * input.stride[2];
  const bool share = layer.columns.stride % layer.columns.dilation == 0;
  const int64_t shared =
      share ? std::max<int64_t>(0, layer.columns.kernel - layer.columns.stride / layer.columns.dilation) : 0;
  const int64_t task_rows = std::max<int64_t>(1, images * rows / (kThreadTasks * torch::stable::get_num_threads()));
  for_each_task(ceil_div(images * rows, task_rows), [&, images = images, channels = channels, rows = rows,
                                                     columns = columns](int64_t task) {
    for (int64_t row = task * task_rows; row < std::min((task + 1) * task_rows, images * rows); ++row) {
      const int64_t n = row / rows, y = row % rows, start = layer.rows.start(y);
      const int64_t top = layer.rows.first_inside(start), bottom = layer.rows.end_inside(start, input.size[2]);
      for (int64_t x = 0; x < columns; ++x) {
        const int64_t column = layer.columns.start(x);
        const bool ends = x + 1 == columns;  // the row, and the next starts anew
        const Taps taps{layer.rows.dilation * input.stride[2],
                        layer.columns.dilation * input.stride[3],
                        top,
                        bottom,
                        layer.columns.first_inside(column),
                        layer.columns.end_inside(column, input.size[3]),
                        layer.columns.kernel,
                        ends ? down - x * right : right,
                        ends ? 0 : shared};
        pool_cell(input.at(n, 0, start, column), taps, channels, values.at(n, 0, y, x), codes.at(n, 0, y, x));
      }
    }
  });
}

template <class T>
void pool_contiguous(const View<const T>& input, const Sliding& layer, const View<T>& values,
                     const View<uint8_t>& codes) {
  const PoolLoops<T>& loops = ZFK_BEST(kPoolLoops<T>);
  const int64_t lanes = loops.lanes, rows = values.size[2], columns = values.size[3];
  const Axis &down = layer.rows, &right = layer.columns;
  const int64_t span = right.span(columns);
  const int64_t pitch = ceil_div(span, right.stride) + lanes, row_size = pitch * right.stride;
  const int64_t held = std::min(span - right.padding, input.size[3]);  // columns of the input that any output sees
  std::vector<int64_t> taps;
  for (int64_t kx = 0; kx < right.kernel; ++kx)
    taps.push_back(kx * right.dilation % right.stride * pitch + kx * right.dilation / right.stride);
  std::vector<int32_t> first_code(columns + lanes);
  for (int64_t x = 0; x < columns; ++x) first_code[x] = right.first_inside(right.start(x));

  const int64_t block = std::max<int64_t>(
      1,
      std::min(rows, (cached_bytes(kBlockBytes) / (row_size * int64_t(sizeof(T))) - down.extent()) / down.stride + 1));
  const int64_t blocks = ceil_div(rows, block), maps = input.size[0] * input.size[1];
  const int64_t tall = down.span(block);
  share_out(maps * blocks, [&](Tasks& tasks) {
    const Buffer<T> dealt(tall * row_size);
    std::fill_n(dealt.get(), tall * row_size, -std::numeric_limits<T>::infinity());
    std::vector<const T*> tap_rows(down.kernel);
    for (int64_t task; tasks.next(task);) {
      const int64_t n = task / blocks / input.size[1], c = task / blocks % input.size[1];
      const int64_t first = task % blocks * block, last = std::min(first + block, rows);
      const int64_t start = down.start(first);
      for (int64_t r = 0; r < down.span(last - first); ++r)
        if (start + r >= 0 && start + r < input.size[2])
          loops.deal_out(input.at(n, c, start + r, 0), input.stride[3], held, right.padding, right.stride,
                         &dealt[r * row_size], pitch);
      for (int64_t y = first; y < last; ++y) {
        for (int64_t ky = 0; ky < down.kernel; ++ky)
          tap_rows[ky] = dealt.get() + ((y - first) * down.stride + ky * down.dilation) * row_size;
        loops.pool_row(tap_rows.data(), down.first_inside(down.start(y)), down.end_inside(down.start(y), input.size[2]),
                       taps.data(), right.kernel, first_code.data(), columns, values.at(n, c, y, 0),
                       codes.at(n, c, y, 0));
      }
    }
  });
}

template <class T>
std::tuple<Tensor, Tensor> pool(const Tensor& input, const Sliding& layer, bool ceil_mode) {
  const std::array<int64_t, 4> size{input.size(0), input.size(1), layer.rows.outputs(input.size(2), ceil_mode),
                                    layer.columns.outputs(input.size(3), ceil_mode)};
  const Tensor values = empty_like_format(input, size);
  const Tensor codes = empty_like_format(input, size, ScalarType::Byte);
  if (values.numel() == 0) return {values, codes};
  const auto run = is_channels_last(values) && !values.is_contiguous() ? pool_channels_last<T> : pool_contiguous<T>;
  run(read<T>(input), layer, write<T>(values), write<uint8_t>(codes));
  return {values, codes};
}

std::tuple<Tensor, Tensor> max_pool2d_with_switches(const Tensor& input, Ints kernel_size, Ints stride, Ints padding,
                                                    Ints dilation, bool ceil_mode) {
  const auto run = input.scalar_type() == ScalarType::Double ? pool<double> : pool<float>;
  return run(input, to_sliding(to_pair<int64_t>(kernel_size), stride, padding, dilation), ceil_mode);
}

}  // namespace
}  // namespace zfkernels::cpu

ZFK_CPU_KERNEL(max_pool2d_with_switches);
