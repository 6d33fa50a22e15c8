// Unpooling where channels are neighbours in memory; part of the loops that for_each_isa.h compiles.
#if defined(ZFK_GATHER_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_GATHER_LOOPS)
#undef ZFK_GATHER_LOOPS
#else
#define ZFK_GATHER_LOOPS
#endif

#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// One unpooled cell, all its channels: what the kCount windows (0: `count`) that cover it hold where their switch names
// it, added up (kSum) or the last of them. Calls made(channel, vector) for each vector; lanes beyond the channels are
// 0.
template <class T, bool kSum, int kCount, class Made>
ZFK_INLINE void gather_channels(const Cover<T>* covers, int64_t count, int64_t channels, T* out, const Made& made) {
  constexpr int kKnown = kCount == 0 ? 1 : kCount;
  Cover<T> known[kKnown];  // in registers
  Integers<T> codes[kKnown];
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) known[i] = covers[i], codes[i] = broadcast<Integer<T>>(covers[i].code);
  int64_t c = 0;
  for (; c + kLanes<T> <= channels; c += kLanes<T>) {
    Vector<T> cell{};
    const auto meet = [&](const Cover<T>& cover, Integers<T> code) __attribute__((always_inline)) {
      const auto named = load_bytes<T>(cover.codes + c) == code;
      const Vector<T> value = load(cover.values + c);
      cell = kSum ? cell + (named ? value : Vector<T>{}) : (named ? value : cell);
    };
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) meet(known[i], codes[i]);
    if constexpr (kCount == 0)
      for (int64_t i = 0; i < count; ++i) meet(covers[i], broadcast<Integer<T>>(covers[i].code));
    store(out + c, cell);
    made(c, cell);
  }
  if (c == channels) return;
  Vector<T> cell{};
  for (int64_t lane = 0; lane < channels - c; ++lane)
    for (int64_t i = 0; i < count; ++i)
      if (covers[i].codes[c + lane] == covers[i].code)
        cell[lane] = kSum ? cell[lane] + covers[i].values[c + lane] : covers[i].values[c + lane];
  store_some(out + c, cell, channels - c);
  made(c, cell);
}

template <class T, bool kSum, class Made>
ZFK_INLINE void gather_covers(const Cover<T>* covers, int64_t count, int64_t channels, T* out, const Made& made) {
  switch (count) {  // of most poolings
    case 1:
      return gather_channels<T, kSum, 1>(covers, count, channels, out, made);
    case 2:
      return gather_channels<T, kSum, 2>(covers, count, channels, out, made);
    case 4:
      return gather_channels<T, kSum, 4>(covers, count, channels, out, made);
    default:
      return gather_channels<T, kSum, 0>(covers, count, channels, out, made);
  }
}

template <class T>
void gather_cell(const Cover<T>* covers, int64_t count, int64_t channels, bool sum, T* out) {
  const auto nothing = [](int64_t, Vector<T>) {};
  return sum ? gather_covers<T, true>(covers, count, channels, out, nothing)
             : gather_covers<T, false>(covers, count, channels, out, nothing);
}

// gather_cell, and which channels are > 0 or NaN if `positive`, else not zero: a bit each, of at most 128.
template <class T>
std::array<uint64_t, 2> gather_nonzero(const Cover<T>* covers, int64_t count, int64_t channels, bool sum, bool positive,
                                       T* out) {
  uint64_t first = 0, second = 0;
  const auto keep = [&](int64_t channel, Vector<T> cell) __attribute__((always_inline)) {
    (channel < 64 ? first : second) |= uint64_t(nonzero_lanes<T>(cell, positive)) << channel % 64;
  };
  sum ? gather_covers<T, true>(covers, count, channels, out, keep)
      : gather_covers<T, false>(covers, count, channels, out, keep);
  return {first, second};
}

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
