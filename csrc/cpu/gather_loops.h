// Unpooling where channels are neighbours in memory; part of the loops that for_each_isa.h compiles.
#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// One unpooled cell, all its channels: what the kCount windows (0: `count`) that cover it hold where their switch names
// it, added up (kSum) or the last of them. of_vector: bits of a vector, a bit for each lane; keep(channel, bits) takes
// those of several vectors together. Lanes beyond the channels are 0.
template <class T, bool kSum, int kCount, class OfVector, class Keep>
ZFK_INLINE void gather_channels(const Cover<T>* covers, int64_t count, int64_t channels, T* out,
                                const OfVector& of_vector, const Keep& keep) {
  constexpr int kKnown = kCount == 0 ? 1 : kCount, kTogether = 4;
  Cover<T> known[kKnown];  // in registers
  Integers<T> codes[kKnown];
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) known[i] = covers[i], codes[i] = covers[i].code - Integers<T>{};
  const auto vector_at = [&](int64_t c) __attribute__((always_inline)) {
    Vector<T> cell{};
    const auto meet = [&](const Cover<T>& cover, Integers<T> code) __attribute__((always_inline)) {
      const auto named = load_bytes<T>(cover.codes + c) == code;
      const Vector<T> value = load(cover.values + c);
      cell = kSum ? cell + (named ? value : Vector<T>{}) : (named ? value : cell);
    };
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) meet(known[i], codes[i]);
    if constexpr (kCount == 0)
      for (int64_t i = 0; i < count; ++i) meet(covers[i], covers[i].code - Integers<T>{});
    store(out + c, cell);
    return uint64_t(of_vector(cell));
  };
  int64_t c = 0;
  for (; c + kTogether * kLanes<T> <= channels; c += kTogether * kLanes<T>) {
    uint64_t bits = 0;
#pragma GCC unroll 4
    for (int v = 0; v < kTogether; ++v) bits |= vector_at(c + v * kLanes<T>) << v * kLanes<T>;
    keep(c, bits);
  }
  for (; c + kLanes<T> <= channels; c += kLanes<T>) keep(c, vector_at(c));
  if (c == channels) return;
  Vector<T> cell{};
  for (int64_t lane = 0; lane < channels - c; ++lane)
    for (int64_t i = 0; i < count; ++i)
      if (covers[i].codes[c + lane] == covers[i].code)
        cell[lane] = kSum ? cell[lane] + covers[i].values[c + lane] : covers[i].values[c + lane];
  store_some(out + c, cell, channels - c);
  keep(c, uint64_t(of_vector(cell)));
}

template <class T, bool kSum, class OfVector, class Keep>
ZFK_INLINE void gather_covers(const Cover<T>* covers, int64_t count, int64_t channels, T* out,
                              const OfVector& of_vector, const Keep& keep) {
  switch (count) {  // of most poolings
    case 1:
      return gather_channels<T, kSum, 1>(covers, count, channels, out, of_vector, keep);
    case 2:
      return gather_channels<T, kSum, 2>(covers, count, channels, out, of_vector, keep);
    case 4:
      return gather_channels<T, kSum, 4>(covers, count, channels, out, of_vector, keep);
    default:
      return gather_channels<T, kSum, 0>(covers, count, channels, out, of_vector, keep);
  }
}

template <class T>
void gather_cell(const Cover<T>* covers, int64_t count, int64_t channels, bool sum, T* out) {
  const auto none = [](Vector<T>) { return 0; };
  const auto nothing = [](int64_t, uint64_t) {};
  return sum ? gather_covers<T, true>(covers, count, channels, out, none, nothing)
             : gather_covers<T, false>(covers, count, channels, out, none, nothing);
}

// gather_cell, and which channels are > 0 or NaN if `positive`, else not zero: a bit each, of at most 128.
template <class T>
std::array<uint64_t, 2> gather_nonzero(const Cover<T>* covers, int64_t count, int64_t channels, bool sum, bool positive,
                                       T* out) {
  uint64_t first = 0, second = 0;
  const auto of_vector = [&](Vector<T> cell)
                             __attribute__((always_inline)) { return nonzero_lanes<T>(cell, positive); };
  const auto keep = [&](int64_t channel, uint64_t bits)
                        __attribute__((always_inline)) { (channel < 64 ? first : second) |= bits << channel % 64; };
  sum ? gather_covers<T, true>(covers, count, channels, out, of_vector, keep)
      : gather_covers<T, false>(covers, count, channels, out, of_vector, keep);
  return {first, second};
}

}  // namespace zfkernels::cpu::ZFK_ISA
