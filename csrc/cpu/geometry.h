// Geometry as the CPU's kernels count it.
#pragma once

#include "../common/geometry.h"

namespace zfkernels::cpu {

using Pair = PairOf<int64_t>;
using Axis = AxisOf<int64_t>;
using Sliding = SlidingOf<int64_t>;

}  // namespace zfkernels::cpu
