// The module zfkernels._C and what it was built with.
// Kernels register themselves with STABLE_TORCH_LIBRARY_IMPL(zfkernels_C, CPU | CUDA, m) beside their code. All
// schemas, those of the private namespace zfkernels_C too, stand in Python: zfkernels/ops/<op>/op.py.
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

// The module zfkernels._C. Its functions are build_info and the kernels themselves,
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
