// Unpooling a row of cells from the windows of the usual poolings, two columns apart and two or three wide; part of the
// loops of unpool_relu_conv_transpose2d_kernel.cpp, see for_each_isa.h.
#if defined(ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_PAIR_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_PAIR_LOOPS)
#undef ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_PAIR_LOOPS
#else
#define ZFK_UNPOOL_RELU_CONV_TRANSPOSE2D_PAIR_LOOPS
#endif

#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

using namespace deconv;

// The cells under `count` windows of a row, values that meet added up; kRows rows of windows cover them, each kWide
// columns. A line of channels after the other, all along the row: what a window holds is loaded once, not once for each
// cell that it covers. `windows`: the first of each row, and the switch of its first column. Writes 2 * count + kWide -
// 2 cells, in whole lines, and which of their channels are to be filtered.
template <class T, int kRows, int kWide>
void gather_pairs(const Stage& stage, const Cover<T>* windows, int64_t count, int64_t channels, T* cells,
                  ChannelSet* nonzero) {
  constexpr int kVectors = Stage::kLine / kLanes<T>;
  const int64_t whole = round_up(channels, Stage::kLine), cells_made = 2 * count + kWide - 2;
  const int64_t value_right = stage.value_stride[2], value_down = stage.value_stride[1];
  const int64_t code_right = stage.switch_stride[2], code_down = stage.switch_stride[1];
  const bool positive = stage.rectify;
  for (int64_t x = 0; x < cells_made; ++x) nonzero[x] = {};
  const auto line = [=](int64_t c, auto all) __attribute__((always_inline)) {
    const T* values[kRows];
    const uint8_t* codes[kRows];
    for (int row = 0; row < kRows; ++row) values[row] = windows[row].values + c, codes[row] = windows[row].codes + c;
    T* cell = cells + c;
    ChannelSet* kept = nonzero;
    const auto next_cell = [&](uint64_t bits) __attribute__((always_inline)) {
      (*kept++)[c / 64] |= bits << c % 64;
      cell += whole;
    };
    Vector<T> third[kVectors][kRows] = {};  // what the window to the left has for the cell that both cover
    for (int64_t j = 0; j < count; ++j) {
      uint64_t first_bits = 0, second_bits = 0;
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        constexpr int kStep = kLanes<T>;
        const int64_t rest = channels - c - v * kStep;
        Vector<T> first{}, second{};
#pragma GCC unroll 2
        for (int row = 0; row < kRows; ++row) {
          const T* const from = values[row] + v * kStep;
          const uint8_t* const named_by = codes[row] + v * kStep;
          const Vector<T> value = all ? load(from) : load_some(from, rest);
          const Integers<T> code =
              (all ? load_bytes<T>(named_by) : load_some_bytes<T>(named_by, rest)) - windows[row].code;
          const auto named = [&](int column)
                                 __attribute__((always_inline)) { return code == column ? value : Vector<T>{}; };
          if constexpr (kWide == 3) first += third[v][row];
          first += named(0);
          second += named(1);
          if constexpr (kWide == 3) third[v][row] = named(2);
        }
        store(cell + v * kStep, first);
        store(cell + whole + v * kStep, second);
        first_bits |= uint64_t(nonzero_lanes<T>(first, positive)) << v * kStep;
        second_bits |= uint64_t(nonzero_lanes<T>(second, positive)) << v * kStep;
      }
      next_cell(first_bits);
      next_cell(second_bits);
      __builtin_prefetch(values[kRows - 1] + value_down);  // for the row of windows below
      __builtin_prefetch(codes[kRows - 1] + code_down);
      for (int row = 0; row < kRows; ++row) values[row] += value_right, codes[row] += code_right;
    }
    if constexpr (kWide == 3) {
      uint64_t bits = 0;
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const Vector<T> last = kRows == 1 ? third[v][0] : third[v][0] + third[v][kRows - 1];
        store(cell + v * kLanes<T>, last);
        bits |= uint64_t(nonzero_lanes<T>(last, positive)) << v * kLanes<T>;
      }
      next_cell(bits);
    }
  };
  int64_t c = 0;
  for (; c + Stage::kLine <= channels; c += Stage::kLine) line(c, std::true_type{});
  if (c < channels) line(c, std::false_type{});
}

template <class T>
using GatherPairs = decltype(&gather_pairs<T, 1, 2>);

// gather_pairs for cells under one and under two rows of windows; null where the pooling is another or a line is not
// full.
template <class T>
const GatherPairs<T>* pairs_of(const Stage& stage, int64_t channels) {
  static constexpr GatherPairs<T> kTwoWide[2] = {gather_pairs<T, 1, 2>, gather_pairs<T, 2, 2>};
  static constexpr GatherPairs<T> kThreeWide[2] = {gather_pairs<T, 1, 3>, gather_pairs<T, 2, 3>};
  if (!stage.sum || channels < Stage::kLine || stage.pool.columns.stride != 2 || stage.pool.columns.dilation != 1)
    return nullptr;
  return stage.pool.columns.kernel == 2 ? kTwoWide : stage.pool.columns.kernel == 3 ? kThreeWide : nullptr;
}

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
