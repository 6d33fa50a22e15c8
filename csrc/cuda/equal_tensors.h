// The tensors of ops on windows of one size as those of ragged windows.
#pragma once

#include "equal_windows.cuh"
#include "window_tensors.h"

namespace zfkernels::cuda {

inline void check_origins(const Tensor& origins, int64_t count) {
  STD_TORCH_CHECK(origins.dim() == 2 && origins.size(0) == count && origins.size(1) == 2, "expected origins [", count,
                  ", 2], got ", origins.numel(), " numbers");
  check_dtype(origins, ScalarType::Int, "origins");
}

// The boxes, offsets and owner table of windows of `size` at origins int32 [P, 2].
struct EqualTensors {
  EqualTensors(const Tensor& origins, int64_t count, const Pair& size, Stream stream)
      : cells(count * size.area()),
        boxes(torch::stable::empty(std::array<int64_t, 2>{count, 4}, ScalarType::Int, std::nullopt, origins.device())),
        offsets(buffer(origins, count + 1, ScalarType::Long)),
        owner(buffer(origins, cells, ScalarType::Int)) {
    check_origins(origins, count);
    const Tensor corners = torch::stable::contiguous(origins);
    write_equal_places<256>(
        {data_of<const int32_t>(corners, "origins"), to_int(count), size, data_of<int32_t>(boxes, "boxes"),
         data_of<int64_t>(offsets, "offsets"), data_of<int32_t>(owner, "owner")},
        stream);
  }

  const int64_t cells;
  const Tensor boxes, offsets, owner;
};

// [P, C, h, w] as [P * h * w, C]; a copy unless it is channels last.
inline Tensor as_cells(const Tensor& maps) {
  return torch::stable::flatten(torch::stable::transpose(torch::stable::transpose(maps, 1, 2), 2, 3), 0, 2);
}

// values [P, C, h, w], frames [N, C, H, W]; the outputs lie at out_origins int32 [P, 2].
inline RaggedArguments as_ragged(const Tensor& values, const Tensor& origins, const Tensor& image, const Tensor& frames,
                                 const Tensor& out_origins, const Pair& out_size, Stream stream) {
  const EqualTensors at(origins, values.size(0), size_of(values), stream);
  const EqualTensors out(out_origins, values.size(0), out_size, stream);
  return {as_cells(values), at.boxes,  at.offsets,  image,     frames,
          size_of(frames),  out.boxes, out.offsets, out.owner, out.cells};
}

}  // namespace zfkernels::cuda
