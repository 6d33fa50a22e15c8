// Max-pooling of vectors, with switches and without; part of the loops that for_each_isa.h compiles.
#if defined(ZFK_MAX_POOL_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_MAX_POOL_LOOPS)
#undef ZFK_MAX_POOL_LOOPS
#else
#define ZFK_MAX_POOL_LOOPS
#endif

#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// The least byte of each lane, together at the start of a vector of bytes.
template <class T>
ZFK_INLINE void store_bytes(uint8_t* to, Integers<T> codes, int64_t count) {
  typedef uint8_t Bytes __attribute__((vector_size(ZFK_VECTOR_BYTES)));
  Bytes bytes;
#if defined(__clang__)
  typedef uint8_t Narrow __attribute__((vector_size(kLanes<T>)));
  const Narrow narrow = __builtin_convertvector(codes, Narrow);
  std::memcpy(&bytes, &narrow, sizeof narrow);
#else  // GCC converts lane by lane
  Bytes order{};
#pragma GCC unroll 16
  for (int lane = 0; lane < kLanes<T>; ++lane) order[lane] = lane * sizeof(T);
  bytes = __builtin_shuffle(reinterpret_cast<Bytes>(codes), order);
#endif
  if (count >= kLanes<T>)
    std::memcpy(to, &bytes, kLanes<T>);
  else
    std::memcpy(to, &bytes, count);
}

// The maximum so far and, with switches, its code; the first of equal values stays. `sum` is for has_nan.
template <class T, bool kSwitches>
struct Best {
  Vector<T> value, sum;
  Integers<T> code;

  ZFK_INLINE static Best of_none(Integers<T> first_code) {
    return {broadcast<T>(-__builtin_inf()), Vector<T>{}, first_code};
  }

  // A NaN goes before all numbers, a later NaN before an earlier; kNumbers leaves that aside.
  template <bool kNumbers>
  ZFK_INLINE void meet(Vector<T> other, int code_of_other) {
    const auto more = other > value;
    if constexpr (kNumbers) {
      sum += other;
      value = more ? other : value;
      if constexpr (kSwitches) code = more ? broadcast<Integer<T>>(code_of_other) : code;
    } else {
      const auto wins = more | (other != other);
      value = wins ? other : value;
      if constexpr (kSwitches) code = wins ? broadcast<Integer<T>>(code_of_other) : code;
    }
  }

  // To the outputs from number `first` on; without switches `codes` is null.
  ZFK_INLINE void put(T* values, uint8_t* codes, int64_t first, int64_t count) const {
    store_some(values + first, value, count);
    if constexpr (kSwitches) store_bytes<T>(codes + first, code, count);
  }
};

// kVectors vectors of channels of one output, number `first` and those behind it, of which `count` exist; kWhole: all
// do. `taps` has
//   from(channel): the same taps, whose cells begin with that channel;
//   for_each(visit): calls visit(cell, code) for each tap in row-major order;
//   for_next(visit): calls visit(cell) for the cells that the next output reads and this one does not;
//   first_code(): the switch of an output whose taps are all -inf.
template <class T, bool kSwitches, int kVectors, bool kWhole, class AllTaps>
ZFK_INLINE void pool_channels(const AllTaps& all_taps, int64_t first, int64_t count, T* values, uint8_t* codes) {
  const AllTaps taps = all_taps.from(first);
  constexpr int kVectorsOfLine = sizeof(Vector<T>) < 64 ? 64 / sizeof(Vector<T>) : 1;
  // The processor does not foresee so many short runs of memory.
  taps.for_next([&](const T* cell) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v += kVectorsOfLine) __builtin_prefetch(cell + v * kLanes<T>);
  });
  Best<T, kSwitches> best[kVectors];
  const auto pool = [&]<bool kNumbers>(std::bool_constant<kNumbers>) __attribute__((always_inline)) {
    const auto none = Best<T, kSwitches>::of_none(broadcast<Integer<T>>(taps.first_code()));
#pragma GCC unroll 4
    for (auto& each : best) each = none;
    taps.for_each([&](const T* cell, int code) __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        best[v].template meet<kNumbers>(kWhole ? load(cell + v * kLanes<T>) : load_some(cell, count), code);
    });
  };
  pool(std::true_type());
  Vector<T> sum = best[0].sum;
#pragma GCC unroll 4
  for (int v = 1; v < kVectors; ++v) sum += best[v].sum;
  if (has_nan<T>(sum)) pool(std::false_type());
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) best[v].put(values, codes, first + v * kLanes<T>, kWhole ? kLanes<T> : count);
}

// All channels of one output from its taps; those of a cell lie side by side.
template <class T, bool kSwitches, class Taps>
ZFK_INLINE void pool_output(const Taps& taps, int64_t channels, T* values, uint8_t* codes) {
  constexpr int kTogether = 4;
  int64_t c = 0;
  for (; c + kTogether * kLanes<T> <= channels; c += kTogether * kLanes<T>)
    pool_channels<T, kSwitches, kTogether, true>(taps, c, 0, values, codes);
  for (; c < channels; c += kLanes<T>) pool_channels<T, kSwitches, 1, false>(taps, c, channels - c, values, codes);
}

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
