// max_unpool2d_with_switches: each value at the cell that its switch names, zeros elsewhere.
//
// Bound by memory. Channels last: each pixel is gathered from the windows that cover it and written once. Else each map
// is cleared and its values scattered while it is in the cache. Both take the pooling windows in row-major order, which
// settles the order of sums and which window is the last.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "cover.h"
#include "geometry.h"
#include "parallel.h"
#include "python_call.h"
#include "tensor_view.h"

#define ZFK_LOOPS "gather_loops.h"
#include "for_each_isa.h"

namespace zfkernels::cpu {
namespace {

// The windows of an axis that cover a cell: their index and the tap that does, from the first window to the last.
std::vector<std::vector<std::pair<int64_t, int64_t>>> covers(const Axis& axis, int64_t windows, int64_t cells) {
  std::vector<std::vector<std::pair<int64_t, int64_t>>> found(cells);
  for (int64_t cell = 0; cell < cells; ++cell)
    for_covering(axis, cell, 0, windows, [&](int64_t window, int64_t tap) { found[cell].emplace_back(window, tap); });
  return found;
}

template <class T, bool kSum>
void unpool_channels_last(const View<const T>& values, const View<const uint8_t>& codes, const Sliding& layer,
                          const View<T>& out) {
  const auto gather_cell = ZFK_BEST(gather_cell<T>);
  const auto [images, channels, rows, columns] = out.size;
  const auto down = covers(layer.rows, values.size[2], rows), right = covers(layer.columns, values.size[3], columns);
  for_each_task(images * rows, [&, channels = channels, rows = rows, columns = columns](int64_t task) {
    const int64_t n = task / rows, row = task % rows;
    std::vector<Cover<T>> covering(layer.taps());
    for (int64_t column = 0; column < columns; ++column) {
      int64_t count = 0;
      for (const auto& [y, ky] : down[row])
        for (const auto& [x, kx] : right[column])
          covering[count++] = {values.at(n, 0, y, x), codes.at(n, 0, y, x), int(ky * layer.columns.kernel + kx)};
      gather_cell(covering.data(), count, channels, kSum, out.at(n, 0, row, column));
    }
  });
}

// The windows of an axis that lie in the map with all their cells: [first, last).
std::pair<int64_t, int64_t> whole_windows(const Axis& axis, int64_t windows, int64_t cells) {
  const int64_t room = cells + axis.padding - axis.extent();
  const int64_t first = std::min(ceil_div(axis.padding, axis.stride), windows);
  return {first, std::clamp(floor_div(room, axis.stride) + 1, first, windows)};
}

template <class T, bool kSum>
void unpool_maps(const View<const T>& values, const View<const uint8_t>& codes, const Sliding& layer,
                 const View<T>& out) {
  constexpr int64_t kNowhere = int64_t(1) << 40, kTaskMaps = 8;
  const auto [images, maps, rows, columns] = out.size;
  std::array<int64_t, 256> down, right, place;  // of a cell in its window; negative: the code names none
  for (int64_t code = 0; code < 256; ++code) {
    const bool known = code < layer.taps();
    down[code] = known ? code / layer.columns.kernel * layer.rows.dilation : kNowhere;
    right[code] = known ? code % layer.columns.kernel * layer.columns.dilation : kNowhere;
    place[code] = known ? down[code] * columns + right[code] : -1;
  }
  const auto [top, bottom] = whole_windows(layer.rows, values.size[2], rows);
  const auto [left, end] = whole_windows(layer.columns, values.size[3], columns);
  const auto put = [](T& cell, T value) { cell = kSum ? cell + value : value; };
  for_each_task(ceil_div(images * maps, kTaskMaps), [&, maps = maps, rows = rows, columns = columns, top = top,
                                                     bottom = bottom, left = left, end = end](int64_t task) {
    for (int64_t m = task * kTaskMaps; m < std::min((task + 1) * kTaskMaps, out.size[0] * maps); ++m) {
      T* const map = out.at(m / maps, m % maps, 0, 0);
      std::memset(map, 0, rows * columns * sizeof(T));
      for (int64_t y = 0; y < values.size[2]; ++y) {
        const T* const value = values.at(m / maps, m % maps, y, 0);
        const uint8_t* const code = codes.at(m / maps, m % maps, y, 0);
        const int64_t first_row = layer.rows.start(y);
        const auto checked = [&](int64_t from, int64_t to) {
          for (int64_t x = from; x < to; ++x) {
            const uint8_t at = code[x * codes.stride[3]];
            const int64_t row = first_row + down[at], column = layer.columns.start(x) + right[at];
            if (uint64_t(row) < uint64_t(rows) && uint64_t(column) < uint64_t(columns))
              put(map[row * columns + column], value[x * values.stride[3]]);
          }
        };
        const bool whole = y >= top && y < bottom;
        checked(0, whole ? left : values.size[3]);
        if (!whole) continue;
        T* window = map + first_row * columns + layer.columns.start(left);
        for (int64_t x = left; x < end; ++x, window += layer.columns.stride) {
          const int64_t at = place[code[x * codes.stride[3]]];
          if (at >= 0) put(window[at], value[x * values.stride[3]]);
        }
        checked(end, values.size[3]);
      }
    }
  });
}

template <class T, bool kSum>
Tensor unpool(const Tensor& values, const Tensor& switches, const Sliding& layer, const Pair& size) {
  const Tensor out = empty_like_format(values, {values.size(0), values.size(1), size[0], size[1]});
  const auto with_neighbours = [&](const Tensor& tensor) {  // channels side by side, as in the output
    return is_channels_last(tensor) ? tensor : channels_last(tensor);
  };
  if (out.is_contiguous())
    unpool_maps<T, kSum>(read<T>(values), read<uint8_t>(switches), layer, write<T>(out));
  else
    unpool_channels_last<T, kSum>(read<T>(with_neighbours(values)), read<uint8_t>(with_neighbours(switches)), layer,
                                  write<T>(out));
  return out;
}

Tensor max_unpool2d_with_switches(const Tensor& values, const Tensor& switches, Ints kernel_size, Ints stride,
                                  Ints padding, Ints dilation, Ints output_size, bool sum) {
  const bool wide = values.scalar_type() == ScalarType::Double;
  const auto run =
      wide ? (sum ? unpool<double, true> : unpool<double, false>) : (sum ? unpool<float, true> : unpool<float, false>);
  return run(values, switches, to_sliding(to_pair<int64_t>(kernel_size), stride, padding, dilation),
             to_pair<int64_t>(output_size));
}

}  // namespace
}  // namespace zfkernels::cpu

ZFK_CPU_KERNEL(max_unpool2d_with_switches);
