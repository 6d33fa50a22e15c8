// The arguments of layers on windows as what their outputs read.
#pragma once

#include <optional>

#include "bfloat16.h"
#include "places.h"
#include "tensor_view.h"
#include "window_reads.h"

namespace zfkernels::cpu {

// function<T> for the numbers that a tensor holds.
#define ZFK_FOR_DTYPE(tensor, function)                                           \
  (::zfkernels::cpu::is_double(tensor)     ? function<double>                     \
   : ::zfkernels::cpu::is_bfloat16(tensor) ? function<::zfkernels::cpu::BFloat16> \
                                           : function<float>)

inline bool is_bfloat16(const Tensor& tensor) {
  return tensor.scalar_type() == torch::headeronly::ScalarType::BFloat16;
}
// What its numbers are computed in.
inline torch::headeronly::ScalarType wide_type(const Tensor& tensor) {
  return is_bfloat16(tensor) ? torch::headeronly::ScalarType::Float : tensor.scalar_type();
}

inline bool is_double(const Tensor& tensor) {
  return tensor.scalar_type() == torch::headeronly::ScalarType::Double;
}

// values [cells, C], boxes int32 [P, 4], offsets int64 [P + 1], image int64 [P], frames [N, C, H, W], frame (H, W);
// out_boxes int32 [P, 4], out_offsets int64 [P + 1] for `cells` outputs.
struct WindowArguments {
  Tensor values, boxes, offsets, image;
  std::optional<Tensor> frames;
  Pair frame;
  Tensor out_boxes, out_offsets;
  int64_t cells;
};

template <class T>
class WindowInputs {
 public:
  // `outside` is the value of all cells beyond the frame.
  WindowInputs(const WindowArguments& given, const Sliding& layer, T outside)
      : at_(given.boxes, given.offsets, given.values.size(0)),
        out_(given.out_boxes, given.out_offsets, given.cells),
        values_(with_contiguous_cells(given.values)),
        frames_(given.frames, given.image, at_.get().count, given.values.size(1), given.frame, outside),
        reads_({at_.get(), values_.const_data_ptr<T>(), values_.stride(0)}, frames_, out_.get(), layer) {}

  const WindowReads<T>& reads() const { return reads_; }
  Places out() const { return out_.get(); }

 private:
  const HeldPlaces at_, out_;
  const Tensor values_;
  const Frames<T> frames_;
  const WindowReads<T> reads_;
};

}  // namespace zfkernels::cpu
