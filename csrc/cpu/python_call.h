// Calls of a kernel straight from Python. Torch's own way there converts every argument twice and asks the dispatcher,
// at several times the price of pooling a small map; zfkernels/ops/_native.py takes this one where the dispatcher has
// nothing to do.
#pragma once

#include <Python.h>
#include <torch/csrc/stable/library.h>
#include <torch/headeronly/util/shim_utils.h>

#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "../common/tensors.h"

#if defined(__ELF__)
// Of torch 2.14 and newer: null in older ones, which this library runs with too.
extern "C" {
__attribute__((weak)) AOTITorchError torch_tensor_from_pyobject(void* object, AtenTensorHandle* tensor);
__attribute__((weak)) AOTITorchError torch_tensor_to_pyobject(AtenTensorHandle tensor, void* type, void** object);
}
#endif

namespace zfkernels::cpu {

// The module's functions: the kernels that were built.
inline std::vector<PyMethodDef>& python_methods() {
  static std::vector<PyMethodDef> methods;
  return methods;
}

#if defined(__ELF__)

// Python holds the error already.
struct PythonError {};

struct Release {
  void operator()(PyObject* object) const { Py_DecRef(object); }
};
using Owned = std::unique_ptr<PyObject, Release>;

// A new reference, null where Python holds an error.
inline Owned owned(PyObject* object) {
  if (object == nullptr) throw PythonError();
  return Owned(object);
}

inline int64_t int_from_python(PyObject* object) {
  const long long value = PyLong_AsLongLong(object);
  if (value == -1 && PyErr_Occurred()) throw PythonError();
  return value;
}

template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;

template <class T>
T from_python(PyObject* object) {
  if constexpr (std::is_same_v<T, Tensor>) {
    AtenTensorHandle handle = nullptr;
    if (torch_tensor_from_pyobject(object, &handle) != 0) {
      PyErr_SetString(PyExc_TypeError, "expected a tensor");
      throw PythonError();
    }
    const Tensor tensor(handle);
    STD_TORCH_CHECK(tensor.is_cpu(), "expected a tensor on the CPU");
    return tensor;
  } else if constexpr (is_vector<T>) {
    const Py_ssize_t size = PySequence_Size(object);
    if (size < 0) throw PythonError();
    T items;
    for (Py_ssize_t i = 0; i < size; ++i)
      items.push_back(from_python<typename T::value_type>(owned(PySequence_GetItem(object, i)).get()));
    return items;
  } else if constexpr (std::is_same_v<T, bool>) {
    return int_from_python(object) != 0;
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return int_from_python(object);
  } else {  // std::optional
    return object == Py_None ? T() : T(from_python<typename T::value_type>(object));
  }
}

inline Owned to_python(const Tensor& tensor) {
  void* object = nullptr;
  TORCH_ERROR_CODE_CHECK(torch_tensor_to_pyobject(tensor.get(), nullptr, &object));
  return Owned(static_cast<PyObject*>(object));
}

inline Owned to_python(const std::tuple<Tensor, Tensor>& tensors) {
  const Owned first = to_python(std::get<0>(tensors)), second = to_python(std::get<1>(tensors));
  return owned(PyTuple_Pack(2, first.get(), second.get()));
}

// Lets Python's other threads run meanwhile.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() { PyEval_RestoreThread(state_); }

 private:
  PyThreadState* const state_;
};

template <auto kernel>
struct PythonCall;

template <class Result, class... Arguments, Result (*kernel)(Arguments...)>
struct PythonCall<kernel> {
  static PyObject* call(PyObject*, PyObject* const* given, Py_ssize_t count) {
    try {
      if (count == sizeof...(Arguments)) return call(given, std::index_sequence_for<Arguments...>()).release();
      PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", Py_ssize_t(sizeof...(Arguments)), count);
    } catch (const PythonError&) {
    } catch (const std::bad_alloc&) {
      PyErr_NoMemory();
    } catch (const std::exception& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
  }

 private:
  template <size_t... i>
  static Owned call(PyObject* const* given, std::index_sequence<i...>) {
    const std::tuple<std::decay_t<Arguments>...> arguments{from_python<std::decay_t<Arguments>>(given[i])...};
    const Result result = [&] {
      const WithoutGil released;
      return std::apply(kernel, arguments);
    }();
    return to_python(result);
  }
};

inline bool add_python_method(const char* name, PyObject* (*call)(PyObject*, PyObject* const*, Py_ssize_t)) {
  if (torch_tensor_from_pyobject == nullptr || torch_tensor_to_pyobject == nullptr) return false;
  const auto function = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call));
  python_methods().push_back({name, function, METH_FASTCALL, nullptr});
  return true;
}

#define ZFK_PYTHON_METHOD(name)          \
  static const bool name##_is_callable = \
      ::zfkernels::cpu::add_python_method(#name, &::zfkernels::cpu::PythonCall<&::zfkernels::cpu::name>::call)
#else
#define ZFK_PYTHON_METHOD(name) static_assert(true)
#endif

}  // namespace zfkernels::cpu

// Makes zfkernels::cpu::<name> the CPU kernel of the op of that name.
#define ZFK_CPU_KERNEL(name)                           \
  STABLE_TORCH_LIBRARY_IMPL(zfkernels_C, CPU, m) {     \
    m.impl(#name, TORCH_BOX(&::zfkernels::cpu::name)); \
  }                                                    \
  ZFK_PYTHON_METHOD(name)
