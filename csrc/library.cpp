// The private namespace zfkernels_C: the schemas of the native kernels, whatever device they run on. No argument and no
// result is a text: headers of torch before 2.14 never free one.
// Kernels register themselves with STABLE_TORCH_LIBRARY_IMPL(zfkernels_C, CPU | CUDA, m) beside their code.
// The public ops (torch.ops.zfkernels) are defined in Python, so that they exist without this library.
#include <torch/csrc/stable/library.h>

#include <string>

#include "cpu/isa.h"
#include "cpu/python_call.h"

#define ZFK_STRINGIZE_(x) #x
#define ZFK_STRINGIZE(x) ZFK_STRINGIZE_(x)

namespace zfkernels {

// One "key=value" per line: nothing in it changes between two builds of the same source by the same tools.
std::string build_info() {
  std::string info;
#if defined(__clang__)
  info += "compiler=clang " __clang_version__ "\n";
#elif defined(__GNUC__)
  info += "compiler=gcc " __VERSION__ "\n";
#else
  info += "compiler=unknown\n";
#endif
  info += "cxx_standard=" ZFK_STRINGIZE(__cplusplus) "\n";
  info += "torch_target_version=" ZFK_STRINGIZE(TORCH_TARGET_VERSION) "\n";
  info += std::string("cpu_variants=") + cpu::kIsaVariants + "\n";
  info += std::string("cpu_variant_in_use=") + cpu::isa_name(cpu::best_isa()) + "\n";
#if defined(__SANITIZE_ADDRESS__)
  info += "sanitizer=address\n";
#else
  info += "sanitizer=none\n";
#endif
  return info;
}

}  // namespace zfkernels

STABLE_TORCH_LIBRARY(zfkernels_C, m) {
  m.def("fix_weights(bool on) -> ()");
  m.def(
      "max_pool2d_with_switches(Tensor input, int[2] kernel_size, int[2] stride, int[2] padding, int[2] dilation,"
      " bool ceil_mode) -> (Tensor, Tensor)");
  m.def(
      "max_unpool2d_with_switches(Tensor values, Tensor switches, int[2] kernel_size, int[2] stride, int[2] padding,"
      " int[2] dilation, int[2] output_size, bool sum) -> Tensor");
  m.def(
      "unpool_relu_conv_transpose2d(Tensor values, Tensor? switches, Tensor weight, int[2] pool_kernel_size,"
      " int[2] pool_stride, int[2] pool_padding, int[2] pool_dilation,"
      " int[2] unpooled_size, int[2] stride, int[2] padding, int[2] dilation, int groups, int[2] output_size,"
      " bool sum, bool rectify) -> Tensor");
  m.def(
      "window_conv2d(Tensor values, Tensor boxes, Tensor offsets, Tensor image, Tensor? frames, int[2] frame,"
      " Tensor weight, Tensor? bias, Tensor out_boxes, Tensor out_offsets, Tensor owner, int cells, int[2] stride,"
      " int[2] padding, int[2] dilation, int groups, bool relu) -> Tensor");
  m.def(
      "window_max_pool2d(Tensor values, Tensor boxes, Tensor offsets, Tensor image, Tensor? frames,"
      " int[2] frame, Tensor out_boxes, Tensor out_offsets, Tensor owner, int cells, int[2] kernel_size, int[2] stride,"
      " int[2] padding, int[2] dilation) -> Tensor");
  m.def(
      "window_avg_pool2d(Tensor values, Tensor boxes, Tensor offsets, Tensor image, Tensor? frames,"
      " int[2] frame, Tensor out_boxes, Tensor out_offsets, Tensor owner, int cells, int[2] kernel_size, int[2] stride,"
      " int[2] padding, bool count_include_pad, int? divisor_override) -> Tensor");
  m.def(
      "window_gather(Tensor out_boxes, Tensor out_offsets, Tensor owner, int cells, Tensor image,"
      " Tensor[] values, Tensor[] boxes, Tensor[] offsets, Tensor?[] rows, Tensor? frames, int[2] frame) -> Tensor");
  m.def(
      "window_unpool_relu_conv_transpose2d(Tensor values, Tensor boxes, Tensor offsets, Tensor image, Tensor? frames,"
      " int[2] frame, Tensor? switches, Tensor weight, Tensor out_boxes, Tensor out_offsets, Tensor owner, int cells,"
      " int[2] pool_kernel_size, int[2] pool_stride, int[2] pool_padding, int[2] pool_dilation, int[2] unpooled_size,"
      " int[2] stride, int[2] padding, int[2] dilation, int groups, bool sum, bool rectify) -> Tensor");
  m.def(
      "window_reduce(Tensor values, Tensor boxes, Tensor offsets, Tensor image, Tensor? frames, int[2] frame,"
      " bool maximum) -> Tensor");
  m.def(
      "occluded_conv2d(Tensor images, Tensor weight, Tensor? bias, Tensor boxes, Tensor image, Tensor fill,"
      " Tensor? fill_boxes, Tensor? fill_offsets, Tensor? mask, Tensor? mask_boxes, Tensor? mask_offsets,"
      " Tensor out_boxes, Tensor out_offsets, Tensor owner, int cells, int[2] stride, int[2] padding, int[2] dilation,"
      " int groups, bool relu) -> Tensor");
}

// The module zfkernels._C: importing it registers the above. Its functions are build_info and the kernels themselves,
// the latter not where torch is too old for that.
PyMODINIT_FUNC PyInit__C() {
  static std::vector<PyMethodDef> methods = [] {
    std::vector<PyMethodDef> all = zfkernels::cpu::python_methods();
    const auto build_info = [](PyObject*, PyObject*) { return PyUnicode_FromString(zfkernels::build_info().c_str()); };
    all.push_back({"build_info", build_info, METH_NOARGS, nullptr});
    all.push_back({nullptr, nullptr, 0, nullptr});
    return all;
  }();
  static PyModuleDef module{
      PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods.data(), nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
