// The tensors of ops on windows as the kernels take them.
#pragma once

#include "tensors.h"
#include "window_cells.cuh"

namespace zfkernels::cuda {

inline void check_origins(const Tensor& origins, int64_t count) {
  STD_TORCH_CHECK(origins.dim() == 2 && origins.size(0) == count && origins.size(1) == 2, "expected origins [", count,
                  ", 2], got ", origins.numel(), " numbers");
}

// Holds the copies that the kernels' pointers need alive until the launch.
struct WindowTensors {
  WindowTensors(const Tensor& values, const Tensor& origins, const Tensor& image, const Tensor& frames,
                const Tensor& out_origins)
      : values(with_contiguous_cells(values)),
        frames(with_contiguous_cells(frames)),
        origins(torch::stable::contiguous(origins)),
        image(torch::stable::contiguous(image)),
        out_origins(torch::stable::contiguous(out_origins)) {
    check_origins(origins, values.size(0));
    check_origins(out_origins, values.size(0));
    STD_TORCH_CHECK(image.numel() == values.size(0), "expected image [", values.size(0), "], got ", image.numel());
    STD_TORCH_CHECK(frames.size(1) == values.size(1), "expected frames of ", values.size(1), " channels, got ",
                    frames.size(1));
  }

  template <class T>
  WindowCells<T> cells() const {
    const View<const T> window = view_of<const T>(values, "values"), frame = view_of<const T>(frames, "frames");
    return {window.data,
            frame.data,
            {window.stride[0], window.stride[2], window.stride[3]},
            {frame.stride[0], frame.stride[2], frame.stride[3]},
            data_of<const int32_t>(origins, "origins"),
            data_of<const int32_t>(out_origins, "out_origins"),
            data_of<const int64_t>(image, "image"),
            to_int(values.size(0)),
            to_int(frames.size(0)),
            to_int(values.size(1)),
            size_of(values),
            size_of(frames)};
  }

  // The largest of 16, 4 and 0 bytes in which `channels` channels of any cell can be copied.
  template <class T>
  int copy_bytes(int channels) const {
    return smaller(cuda::copy_bytes<T>(values, channels), cuda::copy_bytes<T>(frames, channels));
  }

  const Tensor values, frames, origins, image, out_origins;
};

}  // namespace zfkernels::cuda
