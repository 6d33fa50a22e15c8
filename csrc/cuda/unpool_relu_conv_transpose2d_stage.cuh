// One stage of a DeconvNet as its kernels see it: tiles of pooled values and switches in shared memory, and the
// unpooled, rectified cells that come of them.
//
// With s the switches, v the values and w the forward convolution's filters:
//   u[c, y, x]   = sum (or the last) of v[c, i, j] over the pooling windows (i, j) whose switch points at (y, x)
//   out[d, y, x] = sum over c, ky, kx of w[c, d, ky, kx] * max(u[c, (y + p - ky * d) / s, (x + p - kx * d) / s], 0)
#pragma once

#include "window_tiles.cuh"

namespace zfkernels::cuda {

// Of full maps, or of windows: crops of the maps with zeros around them.
template <class T>
struct Stage {
  const T* values;                               // [N, Hp, Wp, C], of windows [cells, C]; channels side by side
  const uint8_t* switches;                       // [N, Hp, Wp, C], null: no unpooling
  int64_t value_stride[3], switch_stride[3];     // of maps, rows, cells; of windows' values cells only
  Places windows;                                // boxes null: full maps
  const int64_t* image;                          // [P]
  Outputs at;                                    // of windows
  View<T> out;                                   // [N, C_in, H, W], of windows [cells, C_in] as [1, C_in, 1, cells]
  int batch, images, groups, channels, outputs;  // of one group
  Pair pooled, unpooled, out_size;               // sizes of the maps; out_size of full maps only
  Sliding pool, conv;
  bool last, rectify;
  Pair holders;                   // how many pooling windows may hold an unpooled cell, at most: see most_holders
  int value_bytes, switch_bytes;  // that can be copied at a time: 16, 4 or 0

  __host__ __device__ bool windowed() const { return windows.boxes != nullptr; }
  // Of a map, or of most windows.
  Pair usual_size() const {
    if (!windowed()) return out_size;
    const int side = usual_side(at.at);
    return {side, side};
  }
  // How many blocks there are for tiles of at most this size.
  int64_t blocks(const Pair& most) const {
    if (windowed()) return blocks_of_tiles(at.at, most.area());
    return int64_t(batch) * ceil_div(out_size.rows, most.rows) * ceil_div(out_size.columns, most.columns);
  }
  // The tiles of block `number`: several of a thin window, one of a map.
  __device__ __forceinline__ TileWalk walk(int64_t number, const Pair& most) const {
    return windowed() ? TileWalk::of(at, number, most) : TileWalk{0, number, 1};
  }
  __device__ __forceinline__ WindowTile next(TileWalk& walk, const Pair& most) const {
    if (windowed()) return walk.next(at, most);
    const int columns = ceil_div(out_size.columns, most.columns);
    const int tiles = columns * ceil_div(out_size.rows, most.rows);
    const int64_t item = quotient(walk.tile, tiles);
    if (walk.step == 0 || item >= batch) return {-1, {0, 0}, 0, 0, 0, 0};
    walk.step = 0;
    const int place = int(walk.tile - item * tiles);
    const int row = place / columns * most.rows, column = place % columns * most.columns;
    return {int(item), {smaller(most.rows, out_size.rows - row), smaller(most.columns, out_size.columns - column)},
            row,       column,
            0,         0};
  }
};

// Outputs y (counted in the frame, padding included) of one phase, y = phase mod stride, are reached by the taps first,
// first + step, …; tap number t reaches output `phase + stride * q` from the unpooled cell q + offset - t * reach.
struct PhaseTaps {
  int first, step, count, offset, reach;
};

__host__ __device__ inline int greatest_divisor(int a, int b) {
  while (b) {
    const int rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

__host__ __device__ inline PhaseTaps phase_taps(const Axis& conv, int phase) {
  PhaseTaps taps;
  taps.step = conv.stride / greatest_divisor(conv.stride, conv.dilation);
  taps.reach = taps.step * conv.dilation / conv.stride;
  taps.first = 0;
  while (taps.first < taps.step && (taps.first * conv.dilation - phase) % conv.stride) ++taps.first;
  const bool any = taps.first < taps.step && taps.first < conv.kernel;
  taps.count = any ? (conv.kernel - 1 - taps.first) / taps.step + 1 : 0;
  taps.offset = any ? (phase - taps.first * conv.dilation) / conv.stride : 0;
  return taps;
}

inline Pair most_holders(const Sliding& pool) {
  return {ceil_div(pool.rows.extent(), pool.rows.stride), ceil_div(pool.columns.extent(), pool.columns.stride)};
}
// At most so many pooled rows hold something of `rows` neighbouring unpooled ones.
__host__ __device__ inline int most_pooled(int rows, const Axis& pool) {
  return (rows + pool.extent() - 2) / pool.stride + 1;
}

// Where a tile of one phase lies, and what it is made from.
template <class T>
struct Corner {
  TileWalk walk;  // to the next tile
  Pair phase;     // of the stride
  bool exists;
  int image;                          // whose switches
  Box crop;                           // pooled cells that have values
  const T* values;                    // of the first of them
  int64_t value_row;                  // from one row of them to the next
  int pooled_row, pooled_column;      // of the tile's first pooled cell
  int unpooled_row, unpooled_column;  // of its first unpooled cell
  int out_row, out_column;            // of the first output of its phase, in the tile
  Pair size;                          // of the tile
  T* out;                             // of its first output
  int64_t out_line;                   // from one row of outputs to the next

  __device__ __forceinline__ static Corner of(const Stage<T>& op, const WindowTile& tile) {
    Corner corner{};
    corner.exists = tile.exists();
    if (!corner.exists) return corner;
    const int item = tile.window;
    corner.image = item;
    corner.size = tile.size;
    if (op.windowed()) {
      corner.crop = op.windows.box(item);
      corner.values = op.values + op.windows.first(item, corner.crop) * op.value_stride[2];
      corner.value_row = corner.crop.width * op.value_stride[2];
      corner.out = op.out.data + tile.first * op.out.stride[3];
      corner.out_line = tile.pitch * op.out.stride[3];
      if (op.switches) {
        require(op.image[item] >= 0 && op.image[item] < op.images);
        corner.image = int(op.image[item]);
      }
    } else {
      corner.crop = {0, 0, op.pooled.rows, op.pooled.columns};
      corner.values = op.values + item * op.value_stride[0];
      corner.value_row = op.value_stride[1];
      corner.out = op.out.at(item, 0, tile.row, tile.column);
      corner.out_line = op.out.stride[2];
    }
    return corner;
  }
};

// Cells of a tile: `pooled` staged, `unpooled` made from them. Values come kDepth channels at a time, switches 32:
// whole sectors of memory, both.
//
// In shared memory the cells of one pack of values, and of one word of switches, lie side by side. The planes of the
// packs begin in different banks, so that neither who stages a cell with all its channels nor who reads neighbouring
// cells finds two numbers in one bank.
template <class T, int kDepth>
struct PooledTile {
  static constexpr int kPack = 16 / sizeof(T), kPacks = kDepth / kPack;
  static constexpr int kSwitchDepth = 32, kWords = kSwitchDepth / 4, kWordsOfPack = kPack / 4;

  struct Size {
    Pair pooled, unpooled;
    int value_plane, switch_plane;  // pooled cells from one plane to the next

    static Size of(const Pair& unpooled, const Sliding& pool) {
      const Pair pooled{most_pooled(unpooled.rows, pool.rows), most_pooled(unpooled.columns, pool.columns)};
      return {pooled, unpooled, congruent(pooled.area(), 8 / kPacks, 8), congruent(pooled.area(), 4, 32)};
    }
    __host__ __device__ int values() const { return value_plane * kDepth; }
    __host__ __device__ int switches() const { return switch_plane * kSwitchDepth; }
    int bytes(bool with_switches) const { return values() * int(sizeof(T)) + (with_switches ? switches() : 0); }
  };

  const Size& size;
  T* values;
  uint8_t* switches;

  // Asks for the channels [first, first + kDepth) of the group that begins at channel `group`, and for all switches of
  // 32 channels with the first of them.
  __device__ __forceinline__ void stage(const Stage<T>& op, const Corner<T>& corner, int group, int first, int thread,
                                        int threads) const {
    if (!corner.exists) return;
    const T* const from = corner.values + group + first;
    if (op.value_bytes == 16)
      stage_values<kPack>(op, corner, from, first, thread, threads);
    else if (op.value_bytes == 4)
      stage_values<4 / sizeof(T)>(op, corner, from, first, thread, threads);
    else
      stage_values<0>(op, corner, from, first, thread, threads);
    if (!op.switches || first % kSwitchDepth) return;
    const uint8_t* const codes = op.switches + corner.image * op.switch_stride[0] + group + first;
    if (op.switch_bytes >= 4)
      stage_switches<4>(op, corner, codes, first, thread, threads);
    else
      stage_switches<0>(op, corner, codes, first, thread, threads);
  }

  // kPack channels, from `channel` of the group on, of the unpooled cell at place (row, column) of the tile, summed in
  // float32. They are among those that are staged.
  __device__ __forceinline__ void unpool(const Stage<T>& op, const Corner<T>& corner, int row, int column, int channel,
                                         float (&cell)[kPack]) const {
#pragma unroll
    for (int i = 0; i < kPack; ++i) cell[i] = 0.f;
    const int y = corner.unpooled_row + row, x = corner.unpooled_column + column;
    const bool exists =
        corner.exists && unsigned(y) < unsigned(op.unpooled.rows) && unsigned(x) < unsigned(op.unpooled.columns);
    const int top = op.pool.rows.first_over(y), left = op.pool.columns.first_over(x);
    const T* const of_pack = values + channel % kDepth / kPack * size.value_plane * kPack;
    // In row-major order: the last one wins, or the sum is that of the reference to the bit. All lanes go through as
    // many windows; those that do not hold their cell count for nothing.
#pragma unroll 1
    for (int i = top; i < top + op.holders.rows; ++i) {
      const int tap_row = y + op.pool.rows.padding - i * op.pool.rows.stride;
      const bool row_holds = exists && i <= op.pool.rows.last_over(y) && unsigned(i) < unsigned(op.pooled.rows) &&
                             tap_row % op.pool.rows.dilation == 0;
      const int line = smaller(larger(i - corner.pooled_row, 0), size.pooled.rows - 1) * size.pooled.columns;
#pragma unroll 1
      for (int j = left; j < left + op.holders.columns; ++j) {
        const int tap_column = x + op.pool.columns.padding - j * op.pool.columns.stride;
        const bool holds = row_holds && j <= op.pool.columns.last_over(x) &&
                           unsigned(j) < unsigned(op.pooled.columns) && tap_column % op.pool.columns.dilation == 0;
        const int place = line + smaller(larger(j - corner.pooled_column, 0), size.pooled.columns - 1);
        const auto found = load_pack<T, kPack>(of_pack + place * kPack);
        if (!op.switches) {
#pragma unroll
          for (int k = 0; k < kPack; ++k) cell[k] = holds ? to_float(found.item[k]) : cell[k];
          continue;
        }
        const int code =
            tap_row / op.pool.rows.dilation * op.pool.columns.kernel + tap_column / op.pool.columns.dilation;
#pragma unroll
        for (int word = 0; word < kWordsOfPack; ++word) {
          const auto codes = load_pack<uint8_t, 4>(switches + switch_place(channel % kSwitchDepth / 4 + word, place));
#pragma unroll
          for (int k = 0; k < 4; ++k)
            if (holds && codes.item[k] == code)
              cell[word * 4 + k] = (op.last ? 0.f : cell[word * 4 + k]) + to_float(found.item[word * 4 + k]);
        }
      }
    }
    if (op.rectify) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) cell[k] = rectified(cell[k]);
    }
  }

 private:
  // Of a word of a cell's switches. The four packs that a warp reads at once are 8 banks apart.
  __device__ __forceinline__ int switch_place(int word, int cell) const {
    const int plane = kWordsOfPack == 1 ? word % 4 * 2 + word / 4 : word;
    return (plane * size.switch_plane + cell) * 4;
  }

  // kCount numbers at a time, 0: one after the other without cp.async. Zeros around the crop and behind the channels.
  template <int kCount>
  __device__ __forceinline__ void stage_values(const Stage<T>& op, const Corner<T>& corner, const T* from, int first,
                                               int thread, int threads) const {
    constexpr int kStep = kCount ? kCount : 1, kSteps = kDepth / kStep;
#pragma unroll 1  // the sums of the product hold most registers
    for (int i = thread; i < size.pooled.area() * kSteps; i += threads) {
      const int cell = i / kSteps, channel = i % kSteps * kStep;
      const int row = corner.pooled_row + cell / size.pooled.columns - corner.crop.top;
      const int column = corner.pooled_column + cell % size.pooled.columns - corner.crop.left;
      const bool valid = first + channel < op.channels && unsigned(row) < unsigned(corner.crop.height) &&
                         unsigned(column) < unsigned(corner.crop.width);
      const T* const at = valid ? from + row * corner.value_row + column * op.value_stride[2] + channel : op.values;
      T* const to = values + (channel / kPack * size.value_plane + cell) * kPack + channel % kPack;
      if constexpr (kCount)
        copy_async<kCount * sizeof(T)>(to, at, valid);
      else
        *to = valid ? *at : from_float<T>(0.f);
    }
  }

  template <int kCount>
  __device__ __forceinline__ void stage_switches(const Stage<T>& op, const Corner<T>& corner, const uint8_t* from,
                                                 int first, int thread, int threads) const {
    constexpr int kStep = kCount ? kCount : 1, kSteps = kSwitchDepth / kStep;
#pragma unroll 1  // the sums of the product hold most registers
    for (int i = thread; i < size.pooled.area() * kSteps; i += threads) {
      const int cell = i / kSteps, channel = i % kSteps * kStep;
      const int row = corner.pooled_row + cell / size.pooled.columns;
      const int column = corner.pooled_column + cell % size.pooled.columns;
      const bool valid = first + channel < op.channels && unsigned(row) < unsigned(op.pooled.rows) &&
                         unsigned(column) < unsigned(op.pooled.columns);
      const uint8_t* const at =
          valid ? from + row * op.switch_stride[1] + column * op.switch_stride[2] + channel : op.switches;
      uint8_t* const to = switches + switch_place(channel / 4, cell) + channel % 4;
      if constexpr (kCount)
        copy_async<kCount>(to, at, valid);
      else
        *to = valid ? *at : 0;
    }
  }
};

}  // namespace zfkernels::cuda
