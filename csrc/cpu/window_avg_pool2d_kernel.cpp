// window_avg_pool2d: average pooling of windows, each in its own place of its image's frame.
//
//   out[i, c] = sum over ky, kx of cell(p, c, y * sy - py + ky, x * sx - px + kx) / divisor with (p, y, x) the window
//   and the place of output i. A cell is that of window p where it has one, else that of frame image[p], else zero. The
//   divisor counts the cells of the pooling window inside the frame, or inside the frame and its padding, or is given.
//
// Bound by memory, as is window_max_pool2d.
#include <algorithm>
#include <optional>

#include "parallel.h"
#include "python_call.h"
#include "window_inputs.h"

#define ZFK_LOOPS "window_avg_pool2d_loops.h"
#include "for_each_isa.h"

namespace zfkernels::cpu {
namespace {

constexpr int64_t kTaskOutputs = 256;

template <class T>
Tensor pool(const WindowArguments& windows, const Sliding& layer, const Divisor& divisor) {
  const WindowInputs<T> inputs(windows, layer, T(0));
  const CellReads<T>& reads = inputs.reads();
  const Places at = inputs.out();
  const int64_t channels = windows.values.size(1);
  const Tensor result = empty_cells(windows.values, reads.outputs(), channels);
  T* const out = result.mutable_data_ptr<T>();
  const auto mean_of_cells = ZFK_BEST(mean_of_cells<T>);
  share_out(ceil_div(reads.outputs(), kTaskOutputs), [&](Tasks& tasks) {
    CellTable<T> table;
    const Sliding pool = layer;  // copies: the loop's calls may change what a reference names
    const Divisor by = divisor;
    const Pair frame = windows.frame;
    for (int64_t task; tasks.next(task);) {
      const int64_t first = task * kTaskOutputs, last = std::min(first + kTaskOutputs, reads.outputs());
      reads.find(first, last, 1, table);
      int64_t p = at.owner(first);
      for (int64_t i = first; i < last; ++i) {
        while (i >= at.offsets[p + 1]) ++p;
        const Box& box = at.boxes[p];
        const int64_t cell = i - at.offsets[p], y = box.top + cell / box.width, x = box.left + cell % box.width;
        const auto count = by.of<Wide<T>>(pool.rows.start(y), pool.columns.start(x), pool, frame);
        mean_of_cells(&table.cells[table.rows[i - first]], table.taps, count, channels, out + i * channels);
      }
    }
  });
  return result;
}

}  // namespace

Tensor window_avg_pool2d(Tensor values, Tensor boxes, Tensor offsets, Tensor image, std::optional<Tensor> frames,
                         Ints frame, Tensor out_boxes, Tensor out_offsets, Tensor owner, int64_t cells,
                         Ints kernel_size, Ints stride, Ints padding, bool count_include_pad,
                         std::optional<int64_t> divisor_override) {
  const auto run = ZFK_FOR_DTYPE(values, pool);
  return run({values, boxes, offsets, image, frames, to_pair<int64_t>(frame), out_boxes, out_offsets, owner, cells},
             to_sliding(to_pair<int64_t>(kernel_size), stride, padding, {1, 1}),
             {count_include_pad, divisor_override.value_or(0)});
}

}  // namespace zfkernels::cpu

ZFK_CPU_KERNEL(window_avg_pool2d);
