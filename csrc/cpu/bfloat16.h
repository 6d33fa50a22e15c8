// bfloat16 numbers in kernels: stored in two bytes, computed with as float.
#pragma once

#include <torch/headeronly/util/BFloat16.h>

#include <type_traits>

namespace zfkernels::cpu {

using BFloat16 = c10::BFloat16;

// What numbers that are stored as T are computed in.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

}  // namespace zfkernels::cpu
