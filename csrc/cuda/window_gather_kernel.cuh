// window_gather: the cells of some boxes from several sets of windows in turn, from the frames or zero.
//
//   out[i, c] = the cell at (y, x) of window rows[s][p] of the first source s that has it, else of frame image[p], else
//   zero, with (p, y, x) the window and the place of output i.
//
// Bound by memory: a thread copies neighbouring channels of one cell, 16 bytes at once where they are aligned.
#pragma once

#include "window_cells.cuh"

namespace zfkernels::cuda {

constexpr int kMostSources = 16;  // a launch's arguments are 4 KB at most

template <class T>
struct PickedSource {
  Source<T> source;
  const int64_t* rows;  // [P], the window that each box looks up; null: its own
};

template <class T>
struct WindowGather {
  PickedSource<T> sources[kMostSources];
  int count, channels;
  Frames<T> frames;
  Outputs boxes;
  T* out;  // [cells, C]

  // Null where it is zero.
  __device__ __forceinline__ const T* find(const Cell& cell) const {
    if (!frames.has(cell.y, cell.x)) return nullptr;
#pragma unroll 1
    for (int s = 0; s < count; ++s) {
      const PickedSource<T>& picked = sources[s];
      const int64_t row = picked.rows ? picked.rows[cell.window] : cell.window;
      require(row >= 0 && row < picked.source.at.count);
      const Window<T> window = Window<T>::of(picked.source, int(row));
      if (const T* const found = window.find(cell.y, cell.x, picked.source.stride)) return found;
    }
    const T* const frame = frames.of(cell.window);
    return frame ? frame + cell.y * frames.stride[1] + cell.x * frames.stride[2] : nullptr;
  }
};

template <class T, int kPack>
__global__ void __launch_bounds__(256) window_gather_kernel(const __grid_constant__ WindowGather<T> op) {
  const int64_t item = int64_t(blockIdx.x) * 256 + threadIdx.x;
  const int packs = op.channels / kPack;
  const int64_t output = quotient(item, packs);
  if (output >= op.boxes.at.cells) return;
  Pack<T, kPack> cell{};
  if (const T* const from = op.find(op.boxes.cell(output)))
    cell = load_pack<T, kPack>(from + (item - output * packs) * kPack);
  store_pack<T, kPack>(op.out + item * kPack, cell);
}

// `packed`: cells are 16 bytes of neighbouring channels each, aligned.
template <class T>
void gather_windows(const WindowGather<T>& op, bool packed, Stream stream) {
  constexpr int kPack = 16 / sizeof(T);
  const int64_t items = op.boxes.at.cells * (op.channels / (packed ? kPack : 1));
  launch("window_gather", packed ? window_gather_kernel<T, kPack> : window_gather_kernel<T, 1>,
         grid_of(ceil_div<int64_t>(items, 256)), 256, 0, stream, op);
}

}  // namespace zfkernels::cuda
