// Packed copies of weights that the caller promises not to change for a while (zfkernels.ops.fixed_weights): a sweep
// calls a convolution for hundreds of small groups of windows, and packing for each costs up to a tenth of its time.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <memory>
#include <vector>

#include "parallel.h"
#include "tensor_view.h"

namespace zfkernels::cpu {

// Of the calling thread, so that nobody else's weights get in.
class PackedWeights {
 public:
  static PackedWeights& here() {
    static thread_local PackedWeights weights;
    return weights;
  }

  void begin() { ++depth_; }
  void end() {
    if (depth_ > 0 && --depth_ == 0) entries_.clear();
  }

  // pack(Buffer<T>&) of `size` elements, once for each weight, number of groups and size: ways to compute a convolution
  // pack its weight in different sizes. Null where nothing was promised.
  template <class T, class Pack>
  std::shared_ptr<const Buffer<T>> get(const Tensor& weight, int64_t groups, int64_t size, const Pack& pack) {
    if (depth_ == 0) return nullptr;
    for (const Entry& entry : entries_)
      if (entry.groups == groups && entry.size == size && same(entry.weight, weight))
        return std::static_pointer_cast<const Buffer<T>>(entry.packed);
    const auto packed = std::make_shared<Buffer<T>>(size);
    pack(*packed);
    entries_.push_back({weight, groups, size, packed});
    return packed;
  }

 private:
  struct Entry {
    Tensor weight;  // kept alive: its address stays its own
    int64_t groups, size;
    std::shared_ptr<const void> packed;
  };

  static bool same(const Tensor& a, const Tensor& b) {
    if (a.const_data_ptr() != b.const_data_ptr() || a.scalar_type() != b.scalar_type() || a.dim() != b.dim())
      return false;
    for (int64_t axis = 0; axis < a.dim(); ++axis)
      if (a.size(axis) != b.size(axis) || a.stride(axis) != b.stride(axis)) return false;
    return true;
  }

  int64_t depth_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace zfkernels::cpu
