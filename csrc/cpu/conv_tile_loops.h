// The hot loops of conv_tile.h; see for_each_isa.h.
#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// 24 accumulators where there are 32 registers (AVX-512, NEON), 12 where there are 16.
#if ZFK_VECTOR_BYTES == 64 || defined(__aarch64__)
inline constexpr int kTileVectors = 4;
#else
inline constexpr int kTileVectors = 2;
#endif

template <class T>
TileShape tile_shape() {
  return {kLanes<T>, kTileVectors};
}

// Writes the sums of output j from channel `first` of the panel on.
template <class T>
ZFK_INLINE void finish(const Tile<T>& tile, int64_t j, int64_t first, Vector<T> value) {
  const int64_t count = tile.width - first;
  T* out = tile.out + j * tile.out_stride + first;
  if (tile.accumulate) value += load_some(out, count);
  if (tile.bias) value += load_some(tile.bias + first, count);
  if (tile.relu) value = value < 0 ? Vector<T>{} : value;  // a NaN stays
  store_some(out, value, count);
}

template <class T, int kVectors>
ZFK_INLINE void multiply(const Tile<T>& tile) {
  Vector<T> sum[kTileRows][kVectors] = {};
  const T* weights = tile.panel;
  for (int64_t t = 0; t < tile.tap_count; ++t) {
    const T* cell[kTileRows];
    for (int j = 0; j < kTileRows; ++j) cell[j] = tile.cells[tile.rows[j] + tile.taps[t]] + tile.channel;
    for (int64_t c = 0; c < tile.channels; ++c, weights += kVectors * kLanes<T>) {
      Vector<T> w[kVectors];
      for (int n = 0; n < kVectors; ++n) w[n] = load(weights + n * kLanes<T>);
      for (int j = 0; j < kTileRows; ++j) {
        const Vector<T> x = Wide<T>(cell[j][c]) - Vector<T>{};
        for (int n = 0; n < kVectors; ++n) sum[j][n] += x * w[n];
      }
    }
  }
  for (int j = 0; j < kTileRows && j < tile.row_count; ++j)
    for (int n = 0; n < kVectors; ++n) finish(tile, j, n * kLanes<T>, sum[j][n]);
}

// `vectors`: of the tile's panel, 1 … kTileVectors.
template <class T>
void multiply_tile(const Tile<T>& tile, int64_t vectors) {
  if (vectors == 1) return multiply<T, 1>(tile);
  if (vectors == 2 || kTileVectors == 2) return multiply<T, 2>(tile);
  if (vectors == 3) return multiply<T, kTileVectors == 2 ? 2 : 3>(tile);
  return multiply<T, kTileVectors>(tile);
}

// A depthwise convolution: each output channel reads one channel, its own. panel is [tap_count, vectors * lanes].
template <class T>
void multiply_depthwise(const Tile<T>& tile, int64_t vectors) {
  const int64_t full = tile.width / kLanes<T>;
  for (int64_t j = 0; j < kTileRows && j < tile.row_count; ++j) {
    const T* const* cells = tile.cells + tile.rows[j];
    for (int64_t n = 0; n < vectors; ++n) {
      const int64_t first = n * kLanes<T>;
      Vector<T> sum{};
      for (int64_t t = 0; t < tile.tap_count; ++t) {
        const T* cell = cells[tile.taps[t]] + first;
        sum += (n < full ? load(cell) : load_some(cell, tile.width - first)) *
               load(tile.panel + t * vectors * kLanes<T> + first);
      }
      finish(tile, j, first, sum);
    }
  }
}

}  // namespace zfkernels::cpu::ZFK_ISA
