// The hot loops of conv_tile.h; see for_each_isa.h.
#if defined(ZFK_CONV_TILE_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_CONV_TILE_LOOPS)
#undef ZFK_CONV_TILE_LOOPS
#else
#define ZFK_CONV_TILE_LOOPS
#endif

#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// 24 accumulators where there are 32 registers (AVX-512, NEON), 12 where there are 16.
#if ZFK_VECTOR_BYTES == 64 || defined(__aarch64__)
inline constexpr int kTileVectors = 4;
#else
inline constexpr int kTileVectors = 2;
#endif

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
        const Vector<T> x = broadcast<T>(cell[j][c]);
        for (int n = 0; n < kVectors; ++n) sum[j][n] += x * w[n];
      }
    }
  }
  for (int j = 0; j < kTileRows && j < tile.row_count; ++j)
    for (int n = 0; n < kVectors; ++n) finish(tile, j, n * kLanes<T>, sum[j][n]);
}

template <class T>
void multiply_tile(const Tile<T>& tile, int64_t vectors) {
  if (vectors == 1) return multiply<T, 1>(tile);
  if (vectors == 2 || kTileVectors == 2) return multiply<T, 2>(tile);
  if (vectors == 3) return multiply<T, kTileVectors == 2 ? 2 : 3>(tile);
  return multiply<T, kTileVectors>(tile);
}

// kVectors vectors of channels, from channel `first` on, of a depthwise convolution; kPart: one that is not full.
template <class T, int kVectors, bool kPart = false>
ZFK_INLINE void depthwise(const Tile<T>& tile, int64_t pitch, int64_t first) {
  Vector<T> sum[kTileRows][kVectors] = {};
  for (int64_t t = 0; t < tile.tap_count; ++t) {
    Vector<T> w[kVectors];
    for (int n = 0; n < kVectors; ++n) w[n] = load(tile.panel + t * pitch + first + n * kLanes<T>);
    for (int j = 0; j < kTileRows; ++j) {
      const T* cell = tile.cells[tile.rows[j] + tile.taps[t]] + first;
      for (int n = 0; n < kVectors; ++n)
        sum[j][n] += (kPart ? load_some(cell, tile.width - first) : load(cell + n * kLanes<T>)) * w[n];
    }
  }
  for (int j = 0; j < kTileRows && j < tile.row_count; ++j)
    for (int n = 0; n < kVectors; ++n) finish(tile, j, first + n * kLanes<T>, sum[j][n]);
}

// A few vectors of channels at a time: what the outputs read of them stays in the first cache until all taps are done.
template <class T>
void multiply_depthwise(const Tile<T>& tile, int64_t vectors) {
  const int64_t pitch = vectors * kLanes<T>;
  int64_t first = 0;
  const auto left = [&] { return (tile.width - first) / kLanes<T>; };
  for (; left() >= kTileVectors; first += kTileVectors * kLanes<T>) depthwise<T, kTileVectors>(tile, pitch, first);
  for (; left() >= 2; first += 2 * kLanes<T>) depthwise<T, 2>(tile, pitch, first);
  for (; left() >= 1; first += kLanes<T>) depthwise<T, 1>(tile, pitch, first);
  if (first < tile.width) depthwise<T, 1, true>(tile, pitch, first);
}

template <class T>
inline constexpr TileLoops<T> kTileLoops{.lanes = kLanes<T>,
                                         .most_vectors = kTileVectors,
                                         .multiply = multiply_tile<T>,
                                         .multiply_depthwise = multiply_depthwise<T>};

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
