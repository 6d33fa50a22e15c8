// Weights in the order in which conv_tile.h reads them: panels of a few vectors of output channels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "conv_tile.h"
#include "geometry.h"
#include "tensor_view.h"

namespace zfkernels::cpu {

struct Panel {
  int64_t first, width;  // output channels
  int64_t vectors;
  int64_t channel;  // the first input channel of its group
};

// Panels of nearly equal width for each of `parts` equal parts of the output channels, which read `channels` each; a
// panel has at most `vectors` vectors of `lanes`.
inline std::vector<Panel> split_outputs(int64_t outputs, int64_t parts, int64_t channels, int64_t lanes,
                                        int64_t vectors) {
  std::vector<Panel> panels;
  const int64_t width = outputs / parts, total = ceil_div(width, lanes), count = ceil_div(total, vectors);
  for (int64_t part = 0; part < parts; ++part) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t first = i * total / count, last = (i + 1) * total / count;
      panels.push_back(
          {part * width + first * lanes, std::min(last * lanes, width) - first * lanes, last - first, part * channels});
    }
  }
  return panels;
}

// packed[ky][kx][c][o] = weight[panel.first + o, c, ky, kx], zero from panel.width to panel.vectors * lanes.
template <class T>
void pack_panel(const View<const T>& weight, const Panel& panel, int64_t lanes, T* packed) {
  const auto [outputs, channels, height, columns] = weight.size;
  const int64_t taps = height * columns, pitch = panel.vectors * lanes;
  // Weights that are neighbours in memory are read one after the other: taps of a channel, or channels of a tap.
  const bool by_tap = weight.stride[1] == 1;
  const int64_t outer = by_tap ? taps : channels, inner = by_tap ? channels : taps;
  for (int64_t first = 0; first < pitch; first += lanes) {
    const int64_t count = std::clamp<int64_t>(panel.width - first, 0, lanes);
    for (int64_t i = 0; i < outer; ++i) {
      for (int64_t j = 0; j < inner; ++j) {
        const int64_t t = by_tap ? i : j, c = by_tap ? j : i;
        T* to = packed + (t * channels + c) * pitch + first;
        const T* from = weight.at(panel.first + first, c, t / columns, t % columns);
        for (int64_t o = 0; o < count; ++o) to[o] = from[o * weight.stride[0]];
        std::fill(to + count, to + lanes, T(0));
      }
    }
  }
}

}  // namespace zfkernels::cpu
