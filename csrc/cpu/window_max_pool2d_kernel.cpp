// window_max_pool2d: max-pooling of windows, each in its own place of its image's frame.
//
//   out[i, c] = max over ky, kx of cell(p, c, y * sy - py + ky * dy, x * sx - px + kx * dx) with (p, y, x) the window
//   and the place of output i. A cell is that of window p where it has one, else that of frame image[p], else -inf.
//
// Bound by memory: each cell is read where it lies, all channels of one at a time, each output written once.
#include <algorithm>
#include <limits>
#include <optional>

#include "parallel.h"
#include "python_call.h"
#include "window_inputs.h"

#define ZFK_LOOPS "window_max_pool2d_loops.h"
#include "for_each_isa.h"

namespace zfkernels::cpu {
namespace {

constexpr int64_t kTaskOutputs = 256;

// out [outputs, C]: the maxima of all outputs of `reads`.
template <class T>
void pool_reads(const CellReads<T>& reads, T* out) {
  const int64_t channels = reads.channels();
  const auto max_of_cells = ZFK_BEST(max_of_cells<T>);
  share_out(ceil_div(reads.outputs(), kTaskOutputs), [&](Tasks& tasks) {
    CellTable<T> table;
    for (int64_t task; tasks.next(task);) {
      const int64_t first = task * kTaskOutputs, last = std::min(first + kTaskOutputs, reads.outputs());
      reads.find(first, last, 1, table);
      for (int64_t i = first; i < last; ++i) {
        const int32_t next = table.rows[std::min(i + 1, last - 1) - first];
        max_of_cells(&table.cells[table.rows[i - first]], table.taps, &table.cells[next], table.fresh_taps, channels,
                     out + i * channels);
      }
    }
  });
}

template <class T>
Tensor pool(const WindowArguments& windows, const Sliding& layer) {
  const WindowInputs<T> inputs(windows, layer, T(-std::numeric_limits<Wide<T>>::infinity()));
  const Tensor out = empty_cells(windows.values, inputs.reads().outputs(), windows.values.size(1));
  pool_reads(inputs.reads(), out.mutable_data_ptr<T>());
  return out;
}

}  // namespace

Tensor window_max_pool2d(Tensor values, Tensor boxes, Tensor offsets, Tensor image, std::optional<Tensor> frames,
                         Ints frame, Tensor out_boxes, Tensor out_offsets, Tensor owner, int64_t cells,
                         Ints kernel_size, Ints stride, Ints padding, Ints dilation) {
  const auto run = ZFK_FOR_DTYPE(values, pool);
  return run({values, boxes, offsets, image, frames, to_pair<int64_t>(frame), out_boxes, out_offsets, owner, cells},
             to_sliding(to_pair<int64_t>(kernel_size), stride, padding, dilation));
}

}  // namespace zfkernels::cpu

ZFK_CPU_KERNEL(window_max_pool2d);
