// The convolution of outputs that read bfloat16 cells by way of a table: tile_conv2d.h for processors that multiply
// such numbers. What some outputs read is copied together, row by row: AMX loads tiles from rows at equal distances.
//
// Sums are float from the first tap to the last, and are rounded once.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "bfloat16_tile.h"
#include "caches.h"
#include "geometry.h"
#include "parallel.h"
#include "tensor_view.h"
#include "window_reads.h"

namespace zfkernels::cpu {
namespace {

class BFloat16Conv2d {
 public:
  // reads: of all outputs; weight [C_out, C / groups, kh, kw], bias [C_out] or null, out [outputs, C_out].
  BFloat16Conv2d(const CellReads<BFloat16>& reads, const View<const BFloat16>& weight, const BFloat16* bias,
                 int64_t groups, bool relu, BFloat16* out)
      : reads_(reads),
        weight_(weight),
        relu_(relu),
        out_(out),
        groups_(groups),
        width_(weight.size[0] / groups),
        panels_(ceil_div(width_, kPanelWidth)),
        steps_(ceil_div(reads.taps() * weight.size[1], kStep)),
        // An odd number of cache lines: rows that are a power of two apart would share few places in the cache.
        pitch_((steps_ | 1) * kStep),
        bias_(groups * panels_ * kPanelWidth, 0.0f) {
    for (int64_t o = 0; bias && o < weight.size[0]; ++o)
      bias_[(o / width_ * panels_) * kPanelWidth + o % width_] = float(bias[o]);
  }

  // Numbers in all panels, which lie one behind the other.
  int64_t packed_size() const { return groups_ * panels_ * panel_size(); }
  void pack(const Buffer<BFloat16>& packed) const {
    for_each_task(groups_ * panels_, [&](int64_t i) { pack_panel(i, &packed[i * panel_size()]); });
  }

  // packed: all panels, or null.
  void run(const BFloat16* packed) const {
    const Buffer<BFloat16> own(packed ? 0 : packed_size());
    if (!packed) pack(own), packed = own.get();
    const int64_t together =
        kBlockRows * std::clamp<int64_t>(cached_bytes(kRowBytes) / (kBlockRows * pitch_ * 2), 1, kMostBlocks);
    const int64_t outputs = reads_.outputs();
    const bool tiles = best_isa() == Isa::kAmxBfloat16;
    share_out(ceil_div(outputs, together), [&](Tasks& tasks) {
      const Buffer<BFloat16> rows(together * pitch_);
      std::memset(static_cast<void*>(rows.get()), 0, together * pitch_ * sizeof(BFloat16));  // also behind the last tap
      CellTable<BFloat16> table;
#if defined(ZFK_X86_VARIANTS)
      if (tiles) bfloat16_isa::configure_tiles();
#endif
      for (int64_t task; tasks.next(task);) {
        const int64_t first = task * together, count = std::min(together, outputs - first);
        reads_.find(first, first + count, 1, table);
        for (int64_t group = 0; group < groups_; ++group) {
          for (int64_t i = 0; i < count; ++i)
            copy_row(&table.cells[table.rows[i]], table.taps, group * weight_.size[1], &rows[i * pitch_]);
          for (int64_t panel = 0; panel < panels_; ++panel)
            multiply({rows.get(), pitch_, count, steps_, packed + (group * panels_ + panel) * panel_size(),
                      &bias_[(group * panels_ + panel) * kPanelWidth],
                      out_ + first * weight_.size[0] + group * width_ + panel * kPanelWidth, weight_.size[0],
                      std::min(kPanelWidth, width_ - panel * kPanelWidth), relu_},
                     tiles);
        }
      }
#if defined(ZFK_X86_VARIANTS)
      if (tiles) bfloat16_isa::release_tiles();
#endif
    });
  }

 private:
  static constexpr int64_t kRowBytes = int64_t(1) << 19, kMostBlocks = 16;
  int64_t panel_size() const { return steps_ * kStep * kPanelWidth; }

  static void multiply(const BFloat16Block& block, bool tiles) {
#if defined(ZFK_X86_VARIANTS)
    tiles ? bfloat16_isa::multiply_amx(block) : bfloat16_isa::multiply_avx512(block);
#endif
  }

  // The cells under an output's taps, one behind the other; those that are neighbours are copied together.
  void copy_row(const BFloat16* const* cells, const std::vector<int32_t>& taps, int64_t channel, BFloat16* row) const {
    const int64_t channels = weight_.size[1], count = taps.size();
    for (int64_t t = 0; t < count;) {
      const BFloat16* from = cells[taps[t]];
      int64_t run = 1;
      while (groups_ == 1 && t + run < count && cells[taps[t + run]] == from + run * channels) ++run;
      std::memcpy(static_cast<void*>(row), from + channel, run * channels * sizeof(BFloat16));
      row += run * channels;
      t += run;
    }
  }

  // packed[k / 2][o][k % 2] of panel number i, all groups counted through.
  void pack_panel(int64_t i, BFloat16* packed) const {
    const int64_t channels = weight_.size[1], columns = weight_.size[3];
    const int64_t first = i / panels_ * width_ + i % panels_ * kPanelWidth;
    const int64_t width = std::min(kPanelWidth, width_ - i % panels_ * kPanelWidth);
    std::memset(static_cast<void*>(packed), 0, panel_size() * sizeof(BFloat16));
    for (int64_t o = 0; o < width; ++o)
      for (int64_t t = 0, k = 0; t < reads_.taps(); ++t)
        for (int64_t c = 0; c < channels; ++c, ++k)
          packed[(k / 2 * kPanelWidth + o) * 2 + k % 2] = *weight_.at(first + o, c, t / columns, t % columns);
  }

  const CellReads<BFloat16>& reads_;
  const View<const BFloat16> weight_;
  const bool relu_;
  BFloat16* const out_;
  const int64_t groups_, width_, panels_, steps_, pitch_;
  std::vector<float> bias_;  // [groups, panels, kPanelWidth]
};

}  // namespace
}  // namespace zfkernels::cpu
