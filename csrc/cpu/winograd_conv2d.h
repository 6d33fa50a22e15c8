// A convolution with filters of 3 x 3, in fewer products: outputs in tiles of 2 x 2 (Winograd's F(2 x 2, 3 x 3); Lavin
// & Gray 2016, arXiv 1509.09308). A tile reads 4 x 4 cells; after a transform of cells and filters, each of 16 places
// is a product of its own over the channels, and the outputs are sums of them: 16 products where 36 were.
//
// What a tile reads beyond its outputs does not reach them: its last row and column only enter the outputs that read
// them. An infinite cell makes NaN of outputs that would be infinite.
//
// Include it behind for_each_isa.h with loops that hold those of conv_tile.h and winograd_loops.h.
#pragma once

#include <algorithm>
#include <vector>

#include "conv_tile.h"
#include "parallel.h"
#include "tensor_view.h"
#include "weight_panels.h"
#include "window_reads.h"
#include "winograd_transforms.h"

namespace zfkernels::cpu {
namespace {

template <class T>
class WinogradConv2d {
 public:
  // Whether it computes this, in less time than a sum over all taps: with few channels the transforms take more time
  // than they save, with few outputs the transform of the filters.
  static bool serves(const CellReads<T>& reads, const View<const T>& weight, int64_t groups) {
    const Sliding& layer = reads.layer();
    const auto fits = [](const Axis& axis) { return axis.kernel == 3 && axis.stride == 1 && axis.dilation == 1; };
    return fits(layer.rows) && fits(layer.columns) && groups == 1 &&
           std::min(weight.size[0], weight.size[1]) >= kFewestChannels && reads.outputs() >= kFewestOutputs;
  }

  // reads: of all outputs; weight [C_out, C, 3, 3], bias [C_out] or null, out [outputs, C_out].
  WinogradConv2d(const CellReads<T>& reads, const View<const T>& weight, const T* bias, bool relu, T* out)
      : reads_(reads),
        weight_(weight),
        bias_(bias),
        relu_(relu),
        out_(out),
        panels_(split_outputs(weight.size[0], 1, weight.size[1], loops_.lanes, loops_.most_vectors)),
        pitch_(ceil_div(weight.size[1], loops_.lanes) * loops_.lanes) {
    const Places& places = reads.out();
    tiles_.push_back(0);
    for (int64_t p = 0; p < places.count; ++p)
      tiles_.push_back(tiles_.back() + ceil_div(places.boxes[p].height, 2) * ceil_div(places.boxes[p].width, 2));
  }

  // Elements of all panels, packed one behind the other.
  int64_t packed_size() const { return panel_size() * int64_t(panels_.size()); }
  void pack(Buffer<T>& packed) const {
    for_each_task(panels_.size(), [&](int64_t i) { pack(panels_[i], &packed[i * panel_size()]); });
  }

  // packed: all panels, or null.
  void run(const T* packed) const {
    const Buffer<T> own(packed ? 0 : packed_size());
    if (!packed) {
      for_each_task(panels_.size(), [&](int64_t i) { pack(panels_[i], &own[i * panel_size()]); });
      packed = own.get();
    }
    // Several tasks for each thread: none waits long for the last.
    const int64_t tiles = tiles_.back(), threads = torch::stable::get_num_threads();
    const int64_t few = ceil_div(ceil_div(tiles, 4 * threads), kTileRows) * kTileRows;
    const int64_t together = std::clamp<int64_t>(few, kFewestTogether, kMostTogether);
    share_out(ceil_div(tiles, together), [&](Tasks& tasks) {
      Scratch scratch(together, pitch_, loops_.most_vectors * loops_.lanes);
      for (int64_t task; tasks.next(task);)
        multiply(task * together, std::min((task + 1) * together, tiles), packed, scratch);
    });
  }

 private:
  static constexpr int64_t kFewestChannels = 32, kFewestOutputs = 512;
  static constexpr int64_t kPlaces = 16, kFewestTogether = 4 * kTileRows, kMostTogether = 16 * kTileRows;

  // Of the tiles of a task.
  struct Scratch {
    Scratch(int64_t tiles, int64_t pitch, int64_t width)
        : cells(kPlaces * tiles * pitch), sums(kPlaces * tiles * width), starts(tiles), rows(tiles), outs(4 * tiles) {
      for (int64_t t = 0; t < tiles; ++t) starts[t] = &cells[t * pitch];
    }
    Buffer<T> cells;               // [16, tiles, pitch], transformed
    Buffer<T> sums;                // [16, tiles, width of a panel]
    std::vector<const T*> starts;  // of each tile's cells in the first of the 16 places
    std::vector<int32_t> rows;
    std::vector<T*> outs;         // [tiles, 4], null where a tile hangs over its window
    std::vector<const T*> found;  // [4, columns]
  };

  int64_t panel_size() const { return kPlaces * weight_.size[1] * loops_.most_vectors * loops_.lanes; }

  // packed[place][c][o] of the panel's transformed filters, zero beyond the last output channel.
  void pack(const Panel& panel, T* packed) const {
    const int64_t channels = weight_.size[1], width = panel.vectors * loops_.lanes;
    std::vector<T> taps(9 * loops_.lanes);
    for (int64_t first = 0; first < width; first += loops_.lanes) {
      std::fill(taps.begin(), taps.end(), T(0));
      const int64_t count = std::clamp<int64_t>(panel.width - first, 0, loops_.lanes);
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t t = 0; t < 9; ++t) {
          const T* from = weight_.at(panel.first + first, c, t / 3, t % 3);
          for (int64_t o = 0; o < count; ++o) taps[t * loops_.lanes + o] = from[o * weight_.stride[0]];
        }
        transforms_.of_taps(taps.data(), packed + c * width + first, channels * width);
      }
    }
  }

  void multiply(int64_t first, int64_t last, const T* packed, Scratch& scratch) const {
    find(first, last, scratch);
    const int64_t count = last - first, tiles = scratch.starts.size(), channels = weight_.size[1];
    for (int64_t t = 0; t < tiles; ++t) scratch.rows[t] = int32_t(std::min(t, count - 1));
    const int32_t tap = 0;
    Tile<T> tile{};
    tile.cells = scratch.starts.data();
    tile.taps = &tap;
    tile.tap_count = 1;
    tile.channels = channels;
    for (size_t i = 0; i < panels_.size(); ++i) {
      const Panel& panel = panels_[i];
      tile.out_stride = tile.width = panel.vectors * loops_.lanes;
      for (int64_t place = 0; place < kPlaces; ++place) {
        tile.channel = place * tiles * pitch_;
        tile.panel = packed + i * panel_size() + place * channels * tile.width;
        for (int64_t t = 0; t < count; t += kTileRows) {
          tile.rows = &scratch.rows[t];
          tile.row_count = count - t;
          tile.out = &scratch.sums[(place * tiles + t) * tile.width];
          loops_.multiply(tile, panel.vectors);
        }
      }
      for (int64_t t = 0; t < count; ++t) {
        T* outs[4];
        for (int64_t o = 0; o < 4; ++o)
          outs[o] = scratch.outs[4 * t + o] ? scratch.outs[4 * t + o] + panel.first : nullptr;
        transforms_.of_sums(&scratch.sums[t * tile.width], tiles * tile.width, panel.width,
                            bias_ ? bias_ + panel.first : nullptr, relu_, outs);
      }
    }
  }

  // The transformed cells of the tiles [first, last), and where their outputs go.
  void find(int64_t first, int64_t last, Scratch& scratch) const {
    const Places& places = reads_.out();
    const int64_t plane = int64_t(scratch.starts.size()) * pitch_;
    int64_t p = std::upper_bound(tiles_.begin(), tiles_.end(), first) - tiles_.begin() - 1;
    for (int64_t tile = first; tile < last;) {
      while (tiles_[p + 1] <= tile) ++p;
      const Box& box = places.boxes[p];
      // As many of a line of tiles as there are.
      const int64_t line = ceil_div(box.width, 2), y = (tile - tiles_[p]) / line, begin = (tile - tiles_[p]) % line;
      const int64_t count = std::min(line - begin, last - tile), columns = 2 * count + 2;
      scratch.found.resize(4 * columns);
      reads_.find_lines(p, reads_.layer().rows.start(box.top + 2 * y), 4,
                        reads_.layer().columns.start(box.left + 2 * begin), columns, columns, scratch.found.data());
      for (int64_t i = 0; i < count; ++i, ++tile) {
        const T* cells[kPlaces];
        for (int64_t place = 0; place < kPlaces; ++place)
          cells[place] = scratch.found[place / 4 * columns + 2 * i + place % 4];
        const int64_t t = tile - first;
        transforms_.of_cells(cells, weight_.size[1], &scratch.cells[t * pitch_], plane);
        for (int64_t o = 0; o < 4; ++o) {
          const int64_t row = 2 * y + o / 2, column = 2 * (begin + i) + o % 2;
          const bool exists = row < box.height && column < box.width;
          scratch.outs[4 * t + o] =
              exists ? out_ + (places.offsets[p] + row * box.width + column) * weight_.size[0] : nullptr;
        }
      }
    }
  }

  const CellReads<T>& reads_;
  const View<const T>& weight_;
  const T* bias_;
  const bool relu_;
  T* out_;  // [outputs, C_out]
  const TileLoops<T> loops_ = ZFK_BEST(kTileLoops<T>);
  const WinogradTransforms<T> transforms_ = ZFK_BEST(kWinogradTransforms<T>);
  const std::vector<Panel> panels_;
  const int64_t pitch_;         // from the transformed cells of a tile to those of the next
  std::vector<int64_t> tiles_;  // [windows + 1] the first tile of each, and how many there are
};

}  // namespace
}  // namespace zfkernels::cpu
