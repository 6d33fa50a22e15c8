// The tensors of ops on windows as the kernels take them.
#pragma once

#include <optional>

#include "../common/windows.h"
#include "tensors.h"
#include "window_cells.cuh"

namespace zfkernels::cuda {

using WindowArguments = zfkernels::WindowArguments<int>;

// Boxes int32 [P, 4] and offsets int64 [P + 1] of windows. Their numbers stay on the device: kernels check them.
class HeldPlaces {
 public:
  HeldPlaces(const Tensor& boxes, const Tensor& offsets, int64_t cells, const char* name, const char* offsets_name)
      : boxes_(torch::stable::contiguous(boxes)), offsets_(torch::stable::contiguous(offsets)) {
    check_places(boxes, offsets, name, offsets_name);
    places_ = {data_of<const int32_t>(boxes_, name), data_of<const int64_t>(offsets_, offsets_name),
               to_size<int>(boxes.size(0)), cells};
  }

  const Places& get() const { return places_; }

 private:
  const Tensor boxes_, offsets_;
  Places places_;
};

// Values [cells, C] of windows.
class HeldSource {
 public:
  HeldSource(const Tensor& values, const Tensor& boxes, const Tensor& offsets)
      : values_(with_contiguous_cells(values)), at_(boxes, offsets, values.size(0), "boxes", "offsets") {
    STD_TORCH_CHECK(values.dim() == 2, "expected values [cells, C], got ", values.dim(), " dimensions");
  }

  int64_t count() const { return at_.get().count; }
  template <class T>
  Source<T> get() const {
    return {data_of<const T>(values_, "values"), values_.stride(0), at_.get()};
  }
  template <class T>
  int copy_bytes(int channels) const {
    return cuda::copy_bytes<T>(values_, channels);
  }

 private:
  const Tensor values_;
  const HeldPlaces at_;
};

// frames [N, C, H, W] around windows of `channels` channels, or none; image int64 [P].
class HeldFrames {
 public:
  HeldFrames(const std::optional<Tensor>& frames, const Tensor& image, int64_t windows, int64_t channels,
             const Pair& size)
      : frames_(with_contiguous_cells(frames)), image_(torch::stable::contiguous(image)), size_(size) {
    check_image(image, windows);
    if (frames) check_frames(*frames, channels, size);
  }

  template <class T>
  Frames<T> get() const {
    const int64_t* const image = data_of<const int64_t>(image_, "image");
    if (!frames_) return {nullptr, {}, image, 0, size_};
    const View<const T> view = view_of<const T>(*frames_, "frames");
    return {view.data, {view.stride[0], view.stride[2], view.stride[3]}, image, to_size<int>(frames_->size(0)), size_};
  }
  template <class T>
  int copy_bytes(int channels) const {
    return frames_ ? cuda::copy_bytes<T>(*frames_, channels) : 16;
  }

 private:
  const std::optional<Tensor> frames_;
  const Tensor image_;
  const Pair size_;
};

// out_boxes int32 [P, 4], out_offsets int64 [P + 1], owner int32 [cells].
class HeldOutputs {
 public:
  HeldOutputs(const Tensor& boxes, const Tensor& offsets, const Tensor& owner, int64_t cells)
      : at_(boxes, offsets, cells, "out_boxes", "out_offsets"), owner_(torch::stable::contiguous(owner)) {
    check_dtype(owner, ScalarType::Int, "owner");
    STD_TORCH_CHECK(owner.numel() == cells, "expected owner [", cells, "], got ", owner.numel());
  }

  Outputs get() const { return {at_.get(), data_of<const int32_t>(owner_, "owner")}; }

 private:
  const HeldPlaces at_;
  const Tensor owner_;
};

// Holds the copies that the kernels' pointers need alive until the launch.
class WindowTensors {
 public:
  explicit WindowTensors(const WindowArguments& given)
      : channels_(given.values.size(1)),
        source_(given.values, given.boxes, given.offsets),
        frames_(given.frames, given.image, source_.count(), channels_, given.frame),
        out_(given.out_boxes, given.out_offsets, given.owner, given.cells) {
    check_out_boxes(given.out_boxes, source_.count());
  }

  template <class T>
  WindowCells<T> cells() const {
    return {source_.get<T>(), frames_.get<T>(), out_.get(), to_size<int>(channels_)};
  }
  // The largest of 16, 4 and 0 bytes in which `channels` channels of any cell can be copied.
  template <class T>
  int copy_bytes(int channels) const {
    return smaller(source_.copy_bytes<T>(channels), frames_.copy_bytes<T>(channels));
  }

 private:
  const int64_t channels_;
  const HeldSource source_;
  const HeldFrames frames_;
  const HeldOutputs out_;
};

inline Tensor empty_cells(const Tensor& like, int64_t cells, int64_t channels) {
  return torch::stable::empty(std::array<int64_t, 2>{cells, channels}, like.scalar_type(), std::nullopt, like.device());
}

}  // namespace zfkernels::cuda
