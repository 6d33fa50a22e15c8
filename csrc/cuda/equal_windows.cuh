// Windows of one size as ragged ones.
#pragma once

#include "geometry.cuh"

namespace zfkernels::cuda {

// Boxes of `size` at origins [count, 2], one after the other.
struct EqualPlaces {
  const int32_t* origins;
  int count;
  Pair size;
  int32_t* boxes;    // [count, 4]
  int64_t* offsets;  // [count + 1]
  int32_t* owner;    // [count * size.area()]
};

// Templates are compiled once for all sources that include them.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) equal_places_kernel(const EqualPlaces places) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i <= places.count) places.offsets[i] = i * places.size.area();
  if (i < places.count) {
    places.boxes[4 * i] = places.origins[2 * i];
    places.boxes[4 * i + 1] = places.origins[2 * i + 1];
    places.boxes[4 * i + 2] = places.size.rows;
    places.boxes[4 * i + 3] = places.size.columns;
  }
  if (i < int64_t(places.count) * places.size.area()) places.owner[i] = int(i / places.size.area());
}

template <int kThreads>
void write_equal_places(const EqualPlaces& places, Stream stream) {
  const int64_t most = int64_t(places.count) * larger(places.size.area(), 1) + 1;
  launch("equal_places", equal_places_kernel<kThreads>, grid_of(ceil_div<int64_t>(most, kThreads)), kThreads, 0, stream,
         places);
}

}  // namespace zfkernels::cuda
