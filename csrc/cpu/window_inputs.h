// The arguments of layers on windows as what their outputs read.
#pragma once

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

inline bool is_double(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::Double;
}
inline bool is_bfloat16(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::BFloat16;
}
// What its numbers are computed in.
inline ScalarType wide_type(const Tensor& tensor) {
  return is_bfloat16(tensor) ? ScalarType::Float : tensor.scalar_type();
}

using WindowArguments = zfkernels::WindowArguments<int64_t>;

template <class T>
class WindowInputs {
 public:
  // `outside` is the value of all cells beyond the frame.
  WindowInputs(const WindowArguments& given, const Sliding& layer, T outside)
      : at_(given.boxes, given.offsets, given.values.size(0)),
        out_(given.out_boxes, given.out_offsets, given.cells, "out_boxes", "out_offsets"),
        values_(with_contiguous_cells(given.values)),
        frames_(given.frames, given.image, at_.get().count, given.values.size(1), given.frame, outside),
        reads_({at_.get(), values_.const_data_ptr<T>(), values_.stride(0)}, frames_, out_.get(), layer) {
    check_out_boxes(given.out_boxes, at_.get().count);
  }

  const WindowReads<T>& reads() const { return reads_; }
  Places out() const { return out_.get(); }

 private:
  const HeldPlaces at_, out_;
  const Tensor values_;
  const Frames<T> frames_;
  const WindowReads<T> reads_;
};

}  // namespace zfkernels::cpu
