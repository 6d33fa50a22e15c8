// window_max_pool2d: max-pooling of windows, each in its own place of its image's frame.
//
//   out[p, c, y, x] = max over ky, kx of cell(p, c, oy * sy - py + ky * dy, ox * sx - px + kx * dx) with (oy, ox) =
//   out_origins[p] + (y, x). A cell is that of window p where it has one, else that of frame image[p], else -inf.
//
// Bound by memory: each cell is read where it lies, all channels of one at a time, each output written once.
#include <algorithm>
#include <limits>
#include <vector>

#include "parallel.h"
#include "python_call.h"
#include "tensor_view.h"
#include "window_reads.h"

#define ZFK_LOOPS "window_max_pool2d_loops.h"
#include "for_each_isa.h"

namespace zfkernels::cpu {
namespace {

constexpr int64_t kTaskOutputs = 256;

template <class T>
Tensor pool(const WindowArguments& windows, const Pair& out_size, const Sliding& layer) {
  const WindowReads<T> reads(windows, out_size, layer, -std::numeric_limits<T>::infinity());
  const Tensor out = empty_channels_last(windows.values, {reads.windows(), reads.channels(), out_size[0], out_size[1]});
  T* const to = out.mutable_data_ptr<T>();
  const int64_t channels = reads.channels();
  const auto max_of_cells = ZFK_BEST(max_of_cells<T>);
  share_out((reads.outputs() + kTaskOutputs - 1) / kTaskOutputs, [&](Tasks& tasks) {
    std::vector<const T*> table;
    std::vector<int32_t> rows;
    for (int64_t task; tasks.next(task);) {
      const int64_t first = task * kTaskOutputs, last = std::min(first + kTaskOutputs, reads.outputs());
      reads.find(first, last, 1, table, rows);
      for (int64_t i = first; i < last; ++i) {
        const int32_t next = rows[std::min(i + 1, last - 1) - first];
        max_of_cells(&table[rows[i - first]], reads.taps(), &table[next], reads.fresh_taps(), channels,
                     to + i * channels);
      }
    }
  });
  return out;
}

}  // namespace

Tensor window_max_pool2d(Tensor values, Tensor origins, Tensor image, Tensor frames, Ints kernel_size,
                         Tensor out_origins, Ints out_size, Ints stride, Ints padding, Ints dilation) {
  const auto run = values.scalar_type() == torch::headeronly::ScalarType::Double ? pool<double> : pool<float>;
  return run({values, origins, image, frames, out_origins}, pair(out_size),
             sliding(pair(kernel_size), stride, padding, dilation));
}

}  // namespace zfkernels::cpu

ZFK_CPU_KERNEL(window_max_pool2d);
