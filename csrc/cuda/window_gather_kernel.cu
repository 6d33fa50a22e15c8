#include "window_gather_kernel.cuh"

// Both of nvcc's passes see the launches; only the host's needs torch, whose headers cost more than the kernels.
namespace zfkernels::cuda {
#define ZFK_LAUNCHES(T) template void gather_windows<T>(const WindowGather<T>&, bool, Stream);
ZFK_FOR_DTYPES(ZFK_LAUNCHES)
}  // namespace zfkernels::cuda

#if !defined(__CUDA_ARCH__)
#include <memory>
#include <vector>

#include "window_tensors.h"

namespace zfkernels::cuda {
namespace {

struct HeldPicked {
  HeldPicked(const Tensor& values, const Tensor& boxes, const Tensor& offsets, const std::optional<Tensor>& rows,
             int64_t channels, int64_t windows)
      : source(values, boxes, offsets), rows(contiguous(rows)) {
    check_source(values, rows, source.count(), channels, windows);
  }

  const HeldSource source;
  const std::optional<Tensor> rows;
};

Tensor window_gather(const Tensor& out_boxes, const Tensor& out_offsets, const Tensor& owner, int64_t cells,
                     const Tensor& image, const std::vector<Tensor>& values, const std::vector<Tensor>& boxes,
                     const std::vector<Tensor>& offsets, const std::vector<std::optional<Tensor>>& rows,
                     const std::optional<Tensor>& frames, Ints frame) {
  check_sources(values, boxes, offsets, rows, frames);
  STD_TORCH_CHECK(values.size() <= kMostSources, "expected at most ", kMostSources, " sources, got ", values.size());
  const Tensor& like = values.empty() ? *frames : values[0];
  const OnDeviceOf device(like);
  const int64_t channels = like.size(1), windows = out_boxes.size(0);
  const Tensor out = empty_cells(like, cells, channels);
  if (out.numel() == 0) return out;
  const HeldOutputs at(out_boxes, out_offsets, owner, cells);
  const HeldFrames around(frames, image, windows, channels, to_pair<int>(frame));
  std::vector<std::unique_ptr<const HeldPicked>> held;
  for (size_t s = 0; s < values.size(); ++s)
    held.push_back(std::make_unique<const HeldPicked>(values[s], boxes[s], offsets[s], rows[s], channels, windows));
  for_dtype(like, [&](auto zero) {
    using T = decltype(zero);
    WindowGather<T> op{};
    op.count = int(held.size());
    op.channels = to_size<int>(channels);
    op.frames = around.get<T>();
    op.boxes = at.get();
    op.out = data_of<T>(out, "out");
    int bytes = around.copy_bytes<T>(op.channels);
    for (int s = 0; s < op.count; ++s) {
      const std::optional<Tensor>& picked = held[s]->rows;
      op.sources[s] = {held[s]->source.get<T>(), picked ? data_of<const int64_t>(*picked, "rows") : nullptr};
      bytes = smaller(bytes, held[s]->source.copy_bytes<T>(op.channels));
    }
    gather_windows<T>(op, bytes == 16, device.stream);
  });
  return out;
}

}  // namespace
}  // namespace zfkernels::cuda

ZFK_KERNELS(m) {
  m.impl("window_gather", TORCH_BOX(&zfkernels::cuda::window_gather));
}

#endif
