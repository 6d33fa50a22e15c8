// unpool_relu_conv_transpose2d: a stage of a DeconvNet, the unpooled map never in memory.
//
// A tile of outputs takes the rows of unpooled cells that reach it, a row at a time (…_unpool_loops.h): where channels
// are neighbours in memory cells are gathered from the pooling windows that cover them, else a few rows of windows are
// scattered. Only channels that are not zero after the ReLU are multiplied (…_loops.h). Few outputs, such as pixels:
// all taps of a cell at once, its sums in registers ("flat"). More: a block of outputs at a time, tap after tap.
#include <algorithm>
#include <optional>

#include "caches.h"
#include "parallel.h"
#include "places.h"
#include "python_call.h"
#include "tensor_view.h"
#include "unpool_relu_conv_transpose2d_stage.h"
#include "window_inputs.h"

#define ZFK_LOOPS "unpool_relu_conv_transpose2d_loops.h"
#include "for_each_isa.h"

namespace zfkernels::cpu {
namespace {

using namespace deconv;

// How the filters [channel, output, ky, kx] of a group are cut up.
template <class T>
Filters<T> filter_layout(const Stage& stage) {
  const StageLoops<T>& loops = ZFK_BEST(kStageLoops<T>);
  Filters<T> layout{};
  layout.lanes = loops.lanes;
  const int64_t vectors = ceil_div(stage.outputs, layout.lanes);
  layout.flat = stage.conv.columns.dilation == 1 && vectors * layout.lanes * 4 > stage.outputs * 5;
  int64_t most_channels = Filters<T>::kMostChannels;
  if (layout.flat) {
    layout.vectors = stage.conv.rows.kernel * ceil_div(stage.conv.columns.kernel * stage.outputs, layout.lanes);
    // On AVX2 three passes whose filters fit the first cache are slower.
    layout.blocks = ceil_div(layout.vectors, loops.footprint_vectors);
  } else {
    layout.vectors = vectors;
    int64_t least = vectors <= 12 ? 0 : INT64_MAX;  // so many, a value and a filter fit 16 registers
    for (int64_t v : {8, 7, 6, 5, 4}) {
      const int64_t cost = ceil_div(vectors, v) * (v + 1);  // each block goes through the lists again
      if (cost < least) {
        least = cost;
        layout.vectors = v;
      }
    }
    layout.blocks = ceil_div(vectors, layout.vectors);
    most_channels =
        std::max<int64_t>(16, std::min<int64_t>(128, (int64_t(48) << 10) / (layout.width() * int64_t(sizeof(T)))));
  }
  layout.block_channels = round_up(ceil_div(stage.channels, ceil_div(stage.channels, most_channels)), Stage::kLine);
  return layout;
}

template <class T>
int64_t packed_size(const Stage& stage, const Filters<T>& layout) {
  if (layout.flat) return stage.channels * layout.width();
  return layout.blocks * ceil_div(stage.channels, layout.block_channels) * stage.conv.taps() * layout.tap_size();
}

template <class T>
void pack_flat(const Stage& stage, const Filters<T>& layout, const View<const T>& weight, int64_t groups, T* packed) {
  std::fill_n(packed, groups * packed_size(stage, layout), T(0));
  // Of each vector of a footprint its place, for the first channel, and how far the next channel's is from there.
  std::vector<Pair> places;
  for (int64_t b = 0; b < layout.blocks; ++b) {
    const Range pass = layout.pass(b);
    for (int64_t v = pass.lo; v < pass.hi; ++v)
      places.push_back({(stage.channels * pass.lo + v - pass.lo) * layout.lanes, pass.size() * layout.lanes});
  }
  for_each_task(groups * stage.channels, [&](int64_t c) {
    T* const group = packed + c / stage.channels * packed_size(stage, layout);
    for (int64_t ky = 0; ky < stage.conv.rows.kernel; ++ky)
      for (int64_t kx = 0; kx < stage.conv.columns.kernel; ++kx) {
        const int64_t row = ky * round_up(stage.conv.columns.kernel * stage.outputs, layout.lanes) + kx * stage.outputs;
        for (int64_t o = 0; o < stage.outputs; ++o) {
          const auto [first, step] = places[(row + o) / layout.lanes];
          group[first + c % stage.channels * step + (row + o) % layout.lanes] = *weight.at(c, o, ky, kx);
        }
      }
  });
}

template <class T>
void pack_blocks(const Stage& stage, const Filters<T>& layout, const View<const T>& weight, int64_t groups, T* packed) {
  const int64_t columns = stage.conv.columns.kernel, taps = stage.conv.taps(), width = layout.width();
  const int64_t channel_blocks = ceil_div(stage.channels, layout.block_channels);
  const bool by_tap = weight.stride[3] == 1 && weight.stride[2] == columns;
  const auto transpose = ZFK_BEST(kStageLoops<T>).transpose;
  for_each_task(groups * stage.channels, [&](int64_t c) {
    const int64_t channel = c % stage.channels;
    T* const group = packed + c / stage.channels * packed_size(stage, layout);
    for (int64_t b = 0; b < layout.blocks; ++b) {
      const int64_t count = std::min(width, stage.outputs - b * width);
      const int64_t block = b * channel_blocks + channel / layout.block_channels;
      T* const to = group + block * taps * layout.tap_size() + channel % layout.block_channels * width;
      if (by_tap) transpose(weight.at(c, b * width, 0, 0), weight.stride[1], count, taps, to, layout.tap_size());
      for (int64_t tap = 0; tap < taps; ++tap) {
        T* const of_tap = to + tap * layout.tap_size();
        const T* const from = weight.at(c, b * width, tap / columns, tap % columns);
        for (int64_t o = 0; o < count && !by_tap; ++o) of_tap[o] = from[o * weight.stride[1]];
        std::fill(of_tap + count, of_tap + width, T(0));
      }
    }
  });
}

// Where a window lies in the pooled maps, and its output.
template <class T>
struct Place {
  const T* values;
  T* out;
  int64_t image;
  Pair first, size, origin;
};

// The groups of channels of some windows, a group's one after the other.
template <class T>
std::vector<Unit<T>> units_of(const Stage& stage, const std::vector<Place<T>>& places,
                              const std::optional<Tensor>& switches, const Pair& unpooled, int64_t groups) {
  static constexpr uint8_t kFirst = 0;
  std::vector<Unit<T>> units;
  units.reserve(groups * places.size());
  const auto codes = switches ? read<uint8_t>(*switches) : View<const uint8_t>{};
  for (int64_t g = 0; g < groups; ++g)
    for (const Place<T>& place : places) {
      Unit<T> unit{};
      STD_TORCH_CHECK(!switches || (place.image >= 0 && place.image < codes.size[0]),
                      "unpool_relu_conv_transpose2d: expected image below ", codes.size[0], ", got ", place.image);
      unit.values = place.values + g * stage.channels * stage.value_stride[0];
      unit.switches = switches ? codes.at(place.image, g * stage.channels, 0, 0) : &kFirst;
      unit.out = place.out + g * stage.outputs * stage.out_stride[0];
      for (int axis : {0, 1}) {
        const int64_t first = place.first[axis];
        unit.crop[axis] = unit.pooled[axis] = {first, first + place.size[axis]};
        unit.unpooled[axis] = switches ? Range{0, unpooled[axis]} : unit.crop[axis];
        unit.origin[axis] = place.origin[axis];
        if (!switches) continue;
        const int64_t margin = stage.sum ? 0 : (stage.pool[axis].extent() - 1) / stage.pool[axis].stride;
        unit.pooled[axis] = Range{first - margin, unit.crop[axis].hi + margin} & Range{0, codes.size[2 + axis]};
      }
      units.push_back(unit);
    }
  return units;
}

template <class T>
Scratch<T> scratch_for(const Stage& stage, const Filters<T>& filters, const Pair& pooled, int64_t units, int64_t rows) {
  const Pair span{stage.pool.rows.span(pooled[0]), stage.pool.columns.span(pooled[1])};
  const int64_t lanes = std::min(filters.block_channels, round_up(stage.channels, Stage::kLine));
  // A single row of pooled cells may take more than kSlabBytes. Not a power of two, for the cache's sake.
  const int64_t half =
      std::max(stage.pool.rows.extent() * span[1] * Stage::kLine, Stage::kSlabBytes / int64_t(sizeof(T))) +
      3 * Stage::kLine;
  const int64_t slab = 2 * half * lanes / Stage::kLine;
  const int64_t columns = stage.out_size[1];
  const int64_t reaching = std::min(span[0], (rows + stage.conv.rows.extent() - 2) / stage.conv.rows.stride + 1);
  Scratch<T> scratch = [&]() -> Scratch<T> {
    if (filters.flat) {
      const int64_t sums = stage.held_rows(rows, filters.block_channels) *
                           (columns + 2 * (stage.conv.columns.extent() - 1)) * stage.outputs;
      return {half,
              Buffer<T>(slab),
              Buffer<T>(sums),
              Buffer<T>(0),
              Buffer<T>(filters.width()),
              Buffer<T>(0),
              Buffer<int32_t>(0),
              Buffer<Cell>(0),
              Buffer<ChannelSet>(span[1])};
    }
    const int64_t blocks = ceil_div(stage.channels, filters.block_channels);
    const int64_t cells = units * reaching * span[1];
    return {half,
            Buffer<T>(slab),
            Buffer<T>(units * planes_of(stage, rows).all() * filters.width()),
            Buffer<T>(cells * stage.channels),
            Buffer<T>(0),
            Buffer<T>(columns * filters.width()),
            Buffer<int32_t>(cells * stage.channels),
            Buffer<Cell>(cells * blocks),
            Buffer<ChannelSet>(span[1])};
  }();
  std::fill_n(scratch.slab.get(), slab, T(0));
  return scratch;
}

template <class T>
std::vector<Tile> tiles_of(const Stage& stage, const Filters<T>& filters, int64_t groups, int64_t units) {
  const int64_t threads = torch::stable::get_num_threads();
  // Sums that taps of one phase of the stride write should stay in the second cache.
  const int64_t phases = filters.flat ? 1 : stage.conv.rows.stride * stage.conv.columns.stride;
  const int64_t row_bytes = stage.out_size[1] * (filters.flat ? stage.outputs : filters.width()) * int64_t(sizeof(T));
  const int64_t budget = filters.flat ? INT64_MAX : phases * cached_bytes(int64_t(512) << 10);
  int64_t rows = std::clamp<int64_t>(budget / row_bytes, 1, stage.out_size[0]);
  int64_t together = filters.flat ? 1
                                  : std::clamp<int64_t>(budget / (row_bytes * stage.out_size[0]), 1,
                                                        ceil_div(groups * units, 4 * threads));
  const auto count = [&] { return groups * ceil_div(units, together) * ceil_div(stage.out_size[0], rows); };
  int64_t blocks = filters.blocks;
  if (!filters.flat && count() < 2 * threads)
    blocks = ceil_div(blocks, std::min(blocks, ceil_div(4 * threads, count())));
  const int64_t parts = filters.flat ? 1 : ceil_div(filters.blocks, blocks);
  while (count() * parts < 2 * threads && rows > stage.conv.rows.extent()) rows = ceil_div(rows, 2);
  std::vector<Tile> tiles;
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t u = 0; u < units; u += together)
      for (int64_t r = 0; r < stage.out_size[0]; r += rows)
        for (int64_t b = 0; b < filters.blocks; b += blocks)
          tiles.push_back({{g * units + u, g * units + std::min(units, u + together)},
                           {r, std::min(stage.out_size[0], r + rows)},
                           {b, std::min(filters.blocks, b + blocks)}});
  return tiles;
}

// The filters of all groups, packed once for all windows.
template <class T>
struct PackedFilters {
  PackedFilters(const Stage& stage, const Tensor& weight, int64_t groups)
      : layout(filter_layout<T>(stage)), group_size(packed_size(stage, layout)), data(groups * group_size) {
    STD_TORCH_CHECK(group_size < INT32_MAX, "unpool_relu_conv_transpose2d: expected fewer filters, got ", group_size);
    (layout.flat ? pack_flat<T> : pack_blocks<T>)(stage, layout, read<T>(weight), groups, data.get());
  }

  const Filters<T> layout;
  const int64_t group_size;
  const Buffer<T> data;
};

// Windows whose outputs are of one size.
template <class T>
void run(const Stage& stage, const PackedFilters<T>& packed, const std::vector<Unit<T>>& units, int64_t groups) {
  const int64_t count = int64_t(units.size()) / groups;
  const auto tiles = tiles_of(stage, packed.layout, groups, count);
  Pair pooled{};
  for (int axis : {0, 1})
    for (const auto& unit : units) pooled[axis] = std::max(pooled[axis], unit.pooled[axis].size());
  const StageLoops<T>& loops = ZFK_BEST(kStageLoops<T>);
  const auto run_tile = packed.layout.flat ? loops.run_flat_tile : loops.run_blocked_tile;
  share_out(int64_t(tiles.size()), [&](Tasks& tasks) {
    const Scratch<T> scratch = scratch_for(stage, packed.layout, pooled, tiles[0].units.size(), tiles[0].rows.size());
    for (int64_t t; tasks.next(t);) {
      Filters<T> filters = packed.layout;
      filters.data = packed.data.get() + tiles[t].units.lo / count * packed.group_size;
      run_tile(stage, filters, units.data(), tiles[t], scratch);
    }
  });
}

template <class T>
Tensor run_maps(Stage stage, const Tensor& values, const std::optional<Tensor>& switches, const Tensor& weight,
                const Pair& unpooled, int64_t groups) {
  const auto in = read<T>(values);
  const std::array<int64_t, 4> size{in.size[0], stage.outputs * groups, stage.out_size[0], stage.out_size[1]};
  const Tensor result = empty_like_format(values, size);
  const auto out = write<T>(result);
  for (int i = 0; i < 3; ++i) {
    stage.value_stride[i] = in.stride[i + 1];
    stage.switch_stride[i] = switches ? switches->stride(i + 1) : 0;
    stage.out_stride[i] = out.stride[i + 1];
  }
  if (in.size[0] == 0) return result;
  std::vector<Place<T>> places;
  for (int64_t n = 0; n < in.size[0]; ++n)
    places.push_back({in.at(n, 0, 0, 0), out.at(n, 0, 0, 0), n, {}, {in.size[2], in.size[3]}, {}});
  run(stage, PackedFilters<T>(stage, weight, groups), units_of(stage, places, switches, unpooled, groups), groups);
  return result;
}

// values [cells, C] of the windows `at`, image int64 [P], switches or none; out [out cells, C_in].
template <class T>
void run_windows(Stage stage, const Tensor& values, const Places& at, const Tensor& image,
                 const std::optional<Tensor>& switches, const Tensor& weight, const Places& to, const Pair& unpooled,
                 int64_t groups, const Tensor& out) {
  const Tensor cells = with_contiguous_cells(values), index = torch::stable::contiguous(image);
  const int64_t step = cells.stride(0), out_step = out.size(1);
  const T* const from = cells.const_data_ptr<T>();
  T* const result = out.mutable_data_ptr<T>();
  check_image(index, at.count);
  // Those of one size together; the outputs of a window without cells are zero.
  std::vector<int64_t> order;
  for (int64_t p = 0; p < at.count; ++p) {
    if (at.boxes[p].cells() == 0)
      std::fill(result + to.offsets[p] * out_step, result + to.offsets[p + 1] * out_step, T(0));
    else if (to.boxes[p].cells() > 0)
      order.push_back(p);
  }
  const auto size_of = [&](int64_t p) {
    const Box &box = at.boxes[p], &made = to.boxes[p];
    return std::array{box.height, box.width, made.height, made.width};
  };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return size_of(a) < size_of(b); });
  const PackedFilters<T> packed(stage, weight, groups);
  for (size_t first = 0, last = 0; first < order.size(); first = last) {
    const auto size = size_of(order[first]);
    stage.out_size = {size[2], size[3]};
    stage.value_stride = {1, size[1] * step, step};
    stage.out_stride = {1, size[3] * out_step, out_step};
    for (int i = 0; i < 3; ++i) stage.switch_stride[i] = switches ? switches->stride(i + 1) : 0;
    std::vector<Place<T>> places;
    for (; last < order.size() && size_of(order[last]) == size; ++last) {
      const int64_t p = order[last];
      const Box &box = at.boxes[p], &made = to.boxes[p];
      places.push_back({from + at.offsets[p] * step,
                        result + to.offsets[p] * out_step,
                        index.const_data_ptr<int64_t>()[p],
                        {box.top, box.left},
                        {box.height, box.width},
                        {made.top, made.left}});
    }
    run(stage, packed, units_of(stage, places, switches, unpooled, groups), groups);
  }
}

Stage stage_of(const Tensor& weight, int64_t channels, int64_t groups, const Ints& pool_kernel_size,
               const Ints& pool_stride, const Ints& pool_padding, const Ints& pool_dilation, const Ints& stride,
               const Ints& padding, const Ints& dilation, bool sum, bool rectify) {
  Stage stage{};
  check_conv_transpose2d(weight, channels, groups);
  stage.pool = to_sliding(to_pair<int64_t>(pool_kernel_size), pool_stride, pool_padding, pool_dilation);
  stage.conv = to_sliding(size_of<int64_t>(weight), stride, padding, dilation);
  stage.channels = channels / groups;
  stage.outputs = weight.size(1);
  stage.sum = sum;
  stage.rectify = rectify;
  return stage;
}

}  // namespace

Tensor window_unpool_relu_conv_transpose2d(Tensor values, Tensor boxes, Tensor offsets, Tensor image,
                                           std::optional<Tensor> frames, Ints frame, std::optional<Tensor> switches,
                                           Tensor weight, Tensor out_boxes, Tensor out_offsets, Tensor /*owner*/,
                                           int64_t cells, Ints pool_kernel_size, Ints pool_stride, Ints pool_padding,
                                           Ints pool_dilation, Ints unpooled_size, Ints stride, Ints padding,
                                           Ints dilation, int64_t groups, bool sum, bool rectify) {
  STD_TORCH_CHECK(!frames, "expected no frames around the windows");
  check_switches(switches, values.size(1), frame);
  check_out_boxes(out_boxes, boxes.size(0));
  const HeldPlaces at(boxes, offsets, values.size(0)), to(out_boxes, out_offsets, cells, "out_boxes", "out_offsets");
  const Stage stage = stage_of(weight, values.size(1), groups, pool_kernel_size, pool_stride, pool_padding,
                               pool_dilation, stride, padding, dilation, sum, rectify);
  const Tensor out = empty_cells(values, cells, stage.outputs * groups);
  const auto run_as = is_double(values) ? run_windows<double> : run_windows<float>;
  run_as(stage, values, at.get(), image, switches, weight, to.get(), to_pair<int64_t>(unpooled_size), groups, out);
  return out;
}

Tensor unpool_relu_conv_transpose2d(const Tensor& values, const std::optional<Tensor>& switches, const Tensor& weight,
                                    const Ints& pool_kernel_size, const Ints& pool_stride, const Ints& pool_padding,
                                    const Ints& pool_dilation, const Ints& unpooled_size, const Ints& stride,
                                    const Ints& padding, const Ints& dilation, int64_t groups, const Ints& output_size,
                                    bool sum, bool rectify) {
  Stage stage = stage_of(weight, values.size(1), groups, pool_kernel_size, pool_stride, pool_padding, pool_dilation,
                         stride, padding, dilation, sum, rectify);
  stage.out_size = to_pair<int64_t>(output_size);
  const auto run_as = is_double(values) ? run_maps<double> : run_maps<float>;
  return run_as(stage, values, switches, weight, to_pair<int64_t>(unpooled_size), groups);
}

}  // namespace zfkernels::cpu

ZFK_CPU_KERNEL(unpool_relu_conv_transpose2d);
ZFK_CPU_KERNEL(window_unpool_relu_conv_transpose2d);
