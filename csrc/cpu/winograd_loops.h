// The hot loops of winograd_conv2d.h; see for_each_isa.h.
#if defined(ZFK_WINOGRAD_LOOPS) == defined(ZFK_TOGGLE)
#if defined(ZFK_WINOGRAD_LOOPS)
#undef ZFK_WINOGRAD_LOOPS
#else
#define ZFK_WINOGRAD_LOOPS
#endif

#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// Of four cells of a line.
template <class V>
ZFK_INLINE void transform_four(V a, V b, V c, V d, V* to) {
  to[0] = a - c;
  to[1] = b + c;
  to[2] = c - b;
  to[3] = b - d;
}

template <class T>
void transform_cells(const T* const* cells, int64_t channels, T* to, int64_t plane) {
  for (int64_t first = 0; first < channels; first += kLanes<T>) {
    Vector<T> lines[4][4], line[4];
    for (int y = 0; y < 4; ++y) {
      for (int x = 0; x < 4; ++x) line[x] = load_some(cells[4 * y + x] + first, channels - first);
      transform_four(line[0], line[1], line[2], line[3], lines[y]);
    }
    for (int x = 0; x < 4; ++x) {
      transform_four(lines[0][x], lines[1][x], lines[2][x], lines[3][x], line);
      for (int y = 0; y < 4; ++y) store(to + (4 * y + x) * plane + first, line[y]);
    }
  }
}

template <class T>
void transform_taps(const T* taps, T* to, int64_t plane) {
  const auto transform = [](Vector<T> a, Vector<T> b, Vector<T> c, Vector<T>* four) {
    four[0] = a;
    four[1] = (a + b + c) * Wide<T>(0.5);
    four[2] = (a - b + c) * Wide<T>(0.5);
    four[3] = c;
  };
  Vector<T> lines[3][4], line[4];
  for (int y = 0; y < 3; ++y) {
    const T* row = taps + 3 * y * kLanes<T>;
    transform(load(row), load(row + kLanes<T>), load(row + 2 * kLanes<T>), lines[y]);
  }
  for (int x = 0; x < 4; ++x) {
    transform(lines[0][x], lines[1][x], lines[2][x], line);
    for (int y = 0; y < 4; ++y) store(to + (4 * y + x) * plane, line[y]);
  }
}

template <class T>
void transform_sums(const T* sums, int64_t plane, int64_t width, const T* bias, bool relu, T* const* out) {
  for (int64_t first = 0; first < width; first += kLanes<T>) {
    Vector<T> lines[4][2];
    for (int y = 0; y < 4; ++y) {
      const T* line = sums + 4 * y * plane + first;
      const Vector<T> b = load(line + plane), c = load(line + 2 * plane);
      lines[y][0] = load(line) + b + c;
      lines[y][1] = b - c - load(line + 3 * plane);
    }
    const Vector<T> shift = bias ? load_some(bias + first, width - first) : Vector<T>{};
    for (int x = 0; x < 2; ++x) {
      Vector<T> two[2] = {lines[0][x] + lines[1][x] + lines[2][x] + shift,
                          lines[1][x] - lines[2][x] - lines[3][x] + shift};
      for (int y = 0; y < 2; ++y) {
        if (!out[2 * y + x]) continue;
        if (relu) two[y] = two[y] < 0 ? Vector<T>{} : two[y];  // a NaN stays
        store_some(out[2 * y + x] + first, two[y], width - first);
      }
    }
  }
}

template <class T>
inline constexpr WinogradTransforms<T> kWinogradTransforms{
    .of_cells = transform_cells<T>, .of_taps = transform_taps<T>, .of_sums = transform_sums<T>};

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
