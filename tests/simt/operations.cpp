// Tests the emulator's own operations against loops: operations NAME prints "right" or what is wrong.
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "primitives.cuh"

namespace {

namespace zfk = zfkernels::cuda;
using zfk::BFloat16;
using zfk::Half;

template <class Kernel>
void run(Kernel kernel, int threads = 32, int blocks = 1, int shared_bytes = 0) {
  simt::Block::current().launch(dim3(blocks), dim3(threads), shared_bytes, kernel);
}

bool shuffles() {
  std::vector<int> seen(6 * 64);
  run(
      [&] {
        const int t = threadIdx.x;
        seen[t] = __shfl_sync(~0u, t, 5);
        seen[64 + t] = __shfl_xor_sync(~0u, t, 3);
        seen[128 + t] = __shfl_down_sync(~0u, t, 2);
        seen[192 + t] = __shfl_up_sync(~0u, t, 2);
        seen[256 + t] = __shfl_sync(~0u, t, 1, 8);
        seen[320 + t] = __shfl_xor_sync(~0u, t, 4, 4);
      },
      64);
  bool right = true;
  for (int t = 0; t < 64; ++t) {
    const int lane = t % 32, first = t - lane;
    right = right && seen[t] == first + 5 && seen[64 + t] == (t ^ 3);
    right = right && seen[128 + t] == (lane + 2 < 32 ? t + 2 : t) && seen[192 + t] == (lane >= 2 ? t - 2 : t);
    right = right && seen[256 + t] == t / 8 * 8 + 1 && seen[320 + t] == t;
  }
  return right;
}

bool votes() {
  std::vector<unsigned> ballots(40);
  std::vector<int> any(40), all(40), block(40);
  run(
      [&] {
        const int t = threadIdx.x;
        ballots[t] = __ballot_sync(~0u, t % 3 == 0);
        any[t] = __any_sync(~0u, t == 31) && !__any_sync(~0u, t == 99);
        all[t] = __all_sync(~0u, t >= 0) && !__all_sync(~0u, t != 33 && t != 4);
        block[t] = __syncthreads_or(t == 35) && !__syncthreads_or(t == 50);
      },
      40);
  bool right = true;
  for (int t = 0; t < 40; ++t) {
    right = right && any[t] == (t < 32) && all[t] && block[t];
    for (int lane = 0; lane < (t < 32 ? 32 : 8); ++lane)
      right = right && (ballots[t] >> lane & 1) == unsigned((t / 32 * 32 + lane) % 3 == 0);
  }
  return right;
}

bool part_of_a_warp() {  // lanes of a mask meet without the others
  std::vector<int> seen(32);
  run([&] {
    const int t = threadIdx.x;
    if (t < 8)
      seen[t] = __shfl_sync(0xffu, t, 3);
    else
      seen[t] = t;
  });
  bool right = true;
  for (int t = 0; t < 32; ++t) right = right && seen[t] == (t < 8 ? 3 : t);
  return right;
}

bool atomics() {
  int sum = 0, most = 0, first = -1;
  run(
      [&] {
        atomicAdd(&sum, int(threadIdx.x));
        atomicMax(&most, int(threadIdx.x * 7 % 64));
        atomicCAS(&first, -1, int(threadIdx.x));
      },
      64, 3);
  return sum == 3 * 63 * 32 && most == 63 && first >= 0;
}

bool indices() {
  std::vector<int> seen(2 * 3 * 4 * 5);
  simt::Block::current().launch(dim3(2, 3), dim3(4, 5), 0, [&] {
    ++seen[((blockIdx.y * gridDim.x + blockIdx.x) * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x];
  });
  for (int count : seen)
    if (count != 1) return false;
  return true;
}

bool shared_memory_is_poisoned() {
  bool right = true;
  run(
      [&] {
        zfk::SharedMemory shared;
        float* const numbers = shared.take<float>(32, "numbers");
        right = right && numbers[threadIdx.x] != numbers[threadIdx.x];  // NaN
        __syncthreads();
        numbers[threadIdx.x] = 1.f;
      },
      32, 2, 128);
  return right;
}

bool copies_land_at_their_wait() {
  alignas(16) float from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  bool right = true;
  run(
      [&] {
        zfk::SharedMemory shared;
        float* const to = shared.take<float>(12, "to");
        zfk::copy_async<16>(to, from, true);
        zfk::commit_copies();
        zfk::copy_async<16>(to + 4, from + 4, false);
        zfk::commit_copies();
        zfk::copy_async<4>(to + 8, from + 6, true);
        zfk::commit_copies();
        zfk::wait_copies<2>();
        right = right && to[3] == 4 && to[4] != to[4] && to[8] != to[8];
        zfk::wait_copies<0>();
        right = right && to[4] == 0 && to[7] == 0 && to[8] == 7;
      },
      1, 1, 48);
  return right;
}

template <class T>
bool product() {
  constexpr int kDepth = 32 / sizeof(T);
  std::vector<float> a(16 * kDepth), b(8 * kDepth), c(16 * 8, 0.5f);
  for (int i = 0; i < 16 * kDepth; ++i) a[i] = float(i * 7 % 23 - 11);
  for (int i = 0; i < 8 * kDepth; ++i) b[i] = float(i * 5 % 19 - 9);
  std::vector<float> result(16 * 8);
  run(
      [&] {
        zfk::SharedMemory shared;
        T* const rows = shared.take<T>(16 * kDepth, "rows");
        T* const columns = shared.take<T>(16 * kDepth, "columns");
        for (int i = threadIdx.x; i < 16 * kDepth; i += 32) {
          rows[i] = zfk::from_float<T>(a[i]);
          columns[i] = zfk::from_float<T>(i < 8 * kDepth ? b[i] : 0.f);
        }
        __syncthreads();
        const int lane = threadIdx.x, pack = 16 / sizeof(T), g = lane / 4, t = lane % 4;
        uint32_t left[4], both[4];
        zfk::load_matrices(left, rows + lane % 16 * kDepth + lane / 16 * pack);
        zfk::load_matrices(both, columns + (lane / 16 * 8 + lane % 8) * kDepth + lane / 8 % 2 * pack);
        const uint32_t right[2] = {both[0], both[1]};
        float sums[4] = {0.5f, 0.5f, 0.5f, 0.5f};
        zfk::multiply<T>(sums, left, right);
        for (int i = 0; i < 4; ++i) result[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sums[i];
      },
      32, 1, 1024);
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      float sum = c[row * 8 + column];
      for (int k = 0; k < kDepth; ++k) sum += a[row * kDepth + k] * b[column * kDepth + k];
      if (result[row * 8 + column] != sum) return false;
    }
  return true;
}

// Round trips of every number of 16 bits, and rounding to even between neighbours.
template <class T>
bool narrow_numbers() {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const T number{uint16_t(bits)};
    const float value = zfk::to_float(number);
    const T back = zfk::from_float<T>(value);
    if (value == value ? back.bits != number.bits : zfk::to_float(back) == zfk::to_float(back)) return false;
    const float next = zfk::to_float(T{uint16_t(bits + 1)});
    if ((bits & 0x7fff) < 0x7bff && std::isfinite(value) && std::isfinite(next)) {
      const uint16_t even = bits % 2 ? bits + 1 : bits;
      if (zfk::from_float<T>(value + (next - value) / 2).bits != even) return false;
    }
  }
  return std::isinf(zfk::to_float(zfk::from_float<T>(INFINITY)));
}

bool many_orders() {  // a seed changes the order of the threads, and nothing else
  std::vector<int> first, second;
  for (int seed : {1, 1, 2}) {
    std::vector<int> order;
    simt::Block::current().seed(seed);
    run([&] { order.push_back(threadIdx.x); }, 64);
    if (order.size() != 64) return false;
    if (first.empty())
      first = order;
    else if (second.empty())
      second = order;
    else if (order == first)
      return false;
  }
  return first == second;
}

const std::map<std::string, bool (*)()> kTests{
    {"shuffles", shuffles},
    {"votes", votes},
    {"part_of_a_warp", part_of_a_warp},
    {"atomics", atomics},
    {"indices", indices},
    {"shared_memory_is_poisoned", shared_memory_is_poisoned},
    {"copies_land_at_their_wait", copies_land_at_their_wait},
    {"product_tf32", product<float>},
    {"product_float16", product<Half>},
    {"product_bfloat16", product<BFloat16>},
    {"narrow_float16", narrow_numbers<Half>},
    {"narrow_bfloat16", narrow_numbers<BFloat16>},
    {"many_orders", many_orders},
};

}  // namespace

int main(int count, char** arguments) {
  int wrong = 0;
  for (const auto& [name, test] : kTests) {
    if (count > 1 && name != arguments[1]) continue;
    const bool right = test();
    std::printf("%s: %s\n", name.c_str(), right ? "right" : "wrong");
    wrong += !right;
  }
  return wrong != 0;
}
