// The convolution of outputs that read cells by way of a table; window_conv2d and occluded_conv2d run it.
//
// The outputs of all windows form one sequence that is cut into tiles (conv_tile.h); a task is a stretch of it times a
// panel of output channels. A panel is packed by the worker that needs it, so that no packed copy has to be kept in
// step with the weights, unless the caller promises that they stay (packed_weights.h).
//
// Include it behind for_each_isa.h with loops that hold those of tile_conv2d_loops.h.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "bfloat16_conv2d.h"
#include "caches.h"
#include "conv_tile.h"
#include "packed_weights.h"
#include "parallel.h"
#include "tensor_view.h"
#include "weight_panels.h"
#include "window_reads.h"
#include "winograd_conv2d.h"

namespace zfkernels::cpu {
namespace {

// Half of the L2 cache: weights that a pass over outputs reads again.
inline constexpr int64_t kCacheBytes = int64_t(1) << 19;
inline constexpr int64_t kPassOutputs = 768;  // outputs between two reads of the same weights

template <class T>
class TileConv2d {
 public:
  // reads: of all outputs; weight [C_out, C / groups, kh, kw], bias [C_out] or null, out [outputs, C_out].
  TileConv2d(const CellReads<T>& reads, const View<const T>& weight, const T* bias, int64_t groups, bool relu, T* out)
      : reads_(reads),
        weight_(weight),
        bias_(bias),
        relu_(relu),
        out_(out),
        depthwise_(groups > 1 && weight.size[0] == groups && weight.size[1] == 1) {
    // One panel holds all of a depthwise convolution.
    panels_ = depthwise_ ? std::vector<Panel>{{0, weight.size[0], ceil_div(weight.size[0], loops_.lanes), 0}}
                         : split_outputs(weight.size[0], groups, weight.size[1], loops_.lanes, loops_.most_vectors);
    for (const Panel& panel : panels_)
      panel_size_ = std::max(panel_size_, weight.size[1] * int64_t(reads.taps()) * panel.vectors * loops_.lanes);
  }

  // Elements of all panels, packed one behind the other.
  int64_t packed_size() const { return panel_size_ * int64_t(panels_.size()); }
  void pack(Buffer<T>& packed) const {
    for_each_task(panels_.size(),
                  [&](int64_t i) { pack_panel(weight_, panels_[i], loops_.lanes, &packed[i * panel_size_]); });
  }

  // packed: all panels, or null.
  void run(const T* packed) const {
    // A task is a set of panels that fit into the cache together, and a stretch of the outputs. Few stretches: each may
    // cost a packing of the panels. Several tasks for each thread: none waits long for the last.
    const int64_t panels = panels_.size(), tiles = ceil_div(reads_.outputs(), kTileRows);
    const int64_t most = std::max<int64_t>(cached_ / panel_size_, 1);
    const int64_t sets = ceil_div(panels, most), threads = torch::stable::get_num_threads();
    const int64_t stretches = std::min(ceil_div(4 * threads, sets), tiles);
    share_out(sets * stretches, [&](Tasks& tasks) {
      const Buffer<T> own(packed ? 0 : panel_size_ * ceil_div(panels, sets));
      CellTable<T> table;
      int64_t held = -1;
      for (int64_t task; tasks.next(task);) {
        const int64_t set = task / stretches, stretch = task % stretches;
        const int64_t first = set * panels / sets, last = (set + 1) * panels / sets;
        const T* of_set = packed ? packed + first * panel_size_ : own.get();
        for (int64_t i = first; i < last && !packed && set != held; ++i)
          pack_panel(weight_, panels_[i], loops_.lanes, &own[(i - first) * panel_size_]);
        held = set;
        const int64_t end = std::min((stretch + 1) * tiles / stretches * kTileRows, reads_.outputs());
        for (int64_t o = stretch * tiles / stretches * kTileRows; o < end; o += kPassOutputs) {
          const int64_t stop = std::min(o + kPassOutputs, end);
          reads_.find(o, stop, kTileRows, table);
          for (int64_t i = first; i < last; ++i) pass(panels_[i], of_set + (i - first) * panel_size_, o, stop, table);
        }
      }
    });
  }

 private:
  // All taps of the outputs [first, last), in parts of the panel that stay in the cache.
  void pass(const Panel& panel, const T* packed, int64_t first, int64_t last, const CellTable<T>& table) const {
    const int64_t taps = reads_.taps(), tap_size = weight_.size[1] * panel.vectors * loops_.lanes;
    // Sums of bfloat16 numbers are rounded at their end alone.
    const bool whole = depthwise_ || std::is_same_v<T, BFloat16>;
    const int64_t part = whole ? taps : std::clamp<int64_t>(cached_ / tap_size, 1, taps);
    const auto multiply = depthwise_ ? loops_.multiply_depthwise : loops_.multiply;
    Tile<T> tile{};
    tile.cells = table.cells.data();
    tile.channel = panel.channel;
    tile.channels = weight_.size[1];
    tile.out_stride = weight_.size[0];
    tile.width = panel.width;
    for (int64_t tap = 0; tap < taps; tap += part) {
      const bool finish = tap + part >= taps;
      tile.taps = &table.taps[tap];
      tile.tap_count = std::min(part, taps - tap);
      tile.panel = packed + tap * tap_size;
      tile.accumulate = tap > 0;
      tile.bias = finish && bias_ ? bias_ + panel.first : nullptr;
      tile.relu = finish && relu_;
      for (int64_t i = first; i < last; i += kTileRows) {
        tile.rows = &table.rows[i - first];
        tile.row_count = last - i;
        tile.out = out_ + i * tile.out_stride + panel.first;
        multiply(tile, panel.vectors);
      }
    }
  }

  const CellReads<T>& reads_;
  const View<const T>& weight_;
  const T* bias_;
  const bool relu_;
  T* out_;  // [outputs, C_out]
  const int64_t cached_ = cached_bytes(kCacheBytes) / int64_t(sizeof(T));
  const TileLoops<T> loops_ = ZFK_BEST(kTileLoops<T>);
  const bool depthwise_;
  std::vector<Panel> panels_;
  int64_t panel_size_ = 1;  // elements of a packed panel, at most
};

// out [outputs, C_out]: the convolution of all outputs of `reads`.
template <class T>
void convolve_reads(const CellReads<T>& reads, const Tensor& weight, const std::optional<Tensor>& bias, int64_t groups,
                    bool relu, T* out) {
  check_conv2d(weight, bias, reads.channels(), groups);
  const View<const T> filters = read<T>(weight);
  const std::optional<Tensor> offsets = contiguous(bias);
  const T* const shift = offsets ? offsets->const_data_ptr<T>() : nullptr;
  const auto run = [&](const auto& convolution) {
    const auto packed = PackedWeights::here().get<T>(weight, groups, convolution.packed_size(),
                                                     [&](Buffer<T>& to) { convolution.pack(to); });
    convolution.run(packed ? packed->get() : nullptr);
  };
  if constexpr (std::is_same_v<T, BFloat16>)
    if (best_isa() >= Isa::kAvx512Bfloat16 && filters.size[1] > 1)
      return run(BFloat16Conv2d(reads, filters, shift, groups, relu, out));
  if constexpr (!std::is_same_v<T, BFloat16>)
    if (WinogradConv2d<T>::serves(reads, filters, groups))
      return run(WinogradConv2d<T>(reads, filters, shift, relu, out));
  run(TileConv2d<T>(reads, filters, shift, groups, relu, out));
}

}  // namespace
}  // namespace zfkernels::cpu
