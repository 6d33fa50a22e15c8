// max_unpool2d_with_switches: each value at the cell that its switch names, zeros elsewhere.
//
// Bound by memory: the output is written twice (zeros first), the rest is small. A task is some maps of an image;
// within it the pooling windows follow in row-major order, which settles the order of sums and which window is the
// last.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "parallel.h"
#include "sliding.h"
#include "tensor_view.h"

namespace zfkernels::cpu {
namespace {

constexpr int64_t kTaskMaps = 16;
constexpr int64_t kZeroBytes = int64_t(1) << 18;

template <class T, bool kSum>
class Scatter {
 public:
  Scatter(const View<const T>& values, const View<const uint8_t>& codes, const Sliding& layer, const View<T>& out)
      : values_(values), codes_(codes), layer_(layer), out_(out) {
    for (int64_t code = 0; code < 256; ++code) {
      const bool known = code < layer.kernel[0] * layer.kernel[1];  // others name no cell at all
      row_[code] = known ? code / layer.kernel[1] * layer.dilation[0] : kNowhere;
      column_[code] = known ? code % layer.kernel[1] * layer.dilation[1] : kNowhere;
    }
  }

  // The maps [first, last) of image n: one window after the other with neighbouring maps in the inner loop if those are
  // neighbours in memory, else one map after the other.
  void run(int64_t n, int64_t first, int64_t last) const {
    const int64_t rows = values_.size[2], columns = values_.size[3];
    if (out_.stride[1] == 1) {
      for (int64_t y = 0; y < rows; ++y)
        for (int64_t x = 0; x < columns; ++x)
          for (int64_t c = first; c < last; ++c) put(n, c, y, x);
    } else {
      for (int64_t c = first; c < last; ++c)
        for (int64_t y = 0; y < rows; ++y)
          for (int64_t x = 0; x < columns; ++x) put(n, c, y, x);
    }
  }

 private:
  static constexpr int64_t kNowhere = int64_t(1) << 40;

  void put(int64_t n, int64_t c, int64_t y, int64_t x) const {
    const uint8_t code = *codes_.at(n, c, y, x);
    const int64_t row = y * layer_.stride[0] - layer_.padding[0] + row_[code];
    const int64_t column = x * layer_.stride[1] - layer_.padding[1] + column_[code];
    if (uint64_t(row) >= uint64_t(out_.size[2]) || uint64_t(column) >= uint64_t(out_.size[3])) return;
    T& cell = *out_.at(n, c, row, column);
    cell = kSum ? cell + *values_.at(n, c, y, x) : *values_.at(n, c, y, x);
  }

  const View<const T> values_;
  const View<const uint8_t> codes_;
  const Sliding layer_;
  const View<T> out_;
  std::array<int64_t, 256> row_, column_;  // of a cell in its window
};

template <class T, bool kSum>
Tensor unpool(const Tensor& values, const Tensor& switches, const Sliding& layer, const Pair& size) {
  const Tensor out = empty_like_format(values, {values.size(0), values.size(1), size[0], size[1]});
  char* const bytes = static_cast<char*>(out.data_ptr());
  const int64_t total = out.numel() * int64_t(sizeof(T)), maps = values.size(1);
  for_each_task(ceil_div(total, kZeroBytes), [&](int64_t task) {
    std::memset(bytes + task * kZeroBytes, 0, std::min(kZeroBytes, total - task * kZeroBytes));
  });
  const Scatter<T, kSum> scatter(read<T>(values), read<uint8_t>(switches), layer, write<T>(out));
  const int64_t parts = ceil_div(maps, kTaskMaps);
  for_each_task(values.size(0) * parts, [&](int64_t task) {
    const int64_t first = task % parts * kTaskMaps;
    scatter.run(task / parts, first, std::min(first + kTaskMaps, maps));
  });
  return out;
}

Tensor max_unpool2d_with_switches(const Tensor& values, const Tensor& switches, Ints kernel_size, Ints stride,
                                  Ints padding, Ints dilation, Ints output_size, std::string overlap) {
  const bool wide = values.scalar_type() == torch::headeronly::ScalarType::Double, sum = overlap == "sum";
  const auto run =
      wide ? (sum ? unpool<double, true> : unpool<double, false>) : (sum ? unpool<float, true> : unpool<float, false>);
  return run(values, switches, sliding(pair(kernel_size), stride, padding, dilation), pair(output_size));
}

}  // namespace
}  // namespace zfkernels::cpu

STABLE_TORCH_LIBRARY_IMPL(zfkernels_C, CPU, m) {
  m.impl("max_unpool2d_with_switches", TORCH_BOX(&zfkernels::cpu::max_unpool2d_with_switches));
}
