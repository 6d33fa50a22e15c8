// planted NAME [seed]: runs one state of the kernel and prints what was found, "right" or the fault.
#include "planted.cuh"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#if defined(SIMT_RECORD)
#include "record.h"
#endif

namespace planted {
namespace {

constexpr int kBlocks = 2, kCount = kBlocks * kThreads, kOrigin = 1;

template <Bug kBug>
bool run() {
  // Heap blocks of the exact sizes; the window is all of the numbers but the first.
  const std::unique_ptr<float[]> numbers(new float[kOrigin + kCount]), sums(new float[kCount]), total(new float[1]{});
  for (int i = 0; i < kOrigin + kCount; ++i) numbers[i] = float(i % 17);
  if (simt::monitor()) {
    simt::monitor()->array("numbers", numbers.get(), (kOrigin + kCount) * 4, 4, false);
    simt::monitor()->array("sums", sums.get(), kCount * 4, 4, false);
    simt::monitor()->array("total", total.get(), 4, 4, false);
  }
  std::optional<simt::DeviceGuard> guard;
  if (kBug != Bug::other_device) guard.emplace();
  void* const stream = kBug == Bug::default_stream ? nullptr : simt::current_stream();
  zfkernels::cuda::launch("sums_of_neighbours", sums_of_neighbours<kBug>, dim3(kBlocks), kThreads,
                          kThreads * int(sizeof(float)), stream, numbers.get(), sums.get(), total.get(), kOrigin);
  float expected_total = 0;
  bool right = true;
  for (int i = 0; i < kCount; ++i) {
    const float* at = numbers.get() + kOrigin + i;
    const float expected = at[0] + (i % kThreads ? at[-1] : at[0]);
    expected_total += expected;
    right = right && sums[i] == expected;
  }
  return right && total[0] == expected_total;
}

const std::map<std::string, bool (*)()> kStates{
    {"none", run<Bug::none>},
    {"missing_barrier", run<Bug::missing_barrier>},
    {"missing_async_wait", run<Bug::missing_async_wait>},
    {"divergent_barrier", run<Bug::divergent_barrier>},
    {"early_exit", run<Bug::early_exit>},
    {"deadlock", run<Bug::deadlock>},
    {"shared_overrun", run<Bug::shared_overrun>},
    {"global_overrun", run<Bug::global_overrun>},
    {"plain_add", run<Bug::plain_add>},
    {"off_by_one_origin", run<Bug::off_by_one_origin>},
    {"divergent_warp", run<Bug::divergent_warp>},
    {"misaligned_copy", run<Bug::misaligned_copy>},
    {"too_much_shared", run<Bug::too_much_shared>},
    {"write_after_two_reads", run<Bug::write_after_two_reads>},
    {"other_device", run<Bug::other_device>},
    {"default_stream", run<Bug::default_stream>},
};

}  // namespace
}  // namespace planted

int main(int count, char** arguments) {
  if (count < 2 || !planted::kStates.count(arguments[1])) {
    for (const auto& state : planted::kStates) std::printf("%s\n", state.first.c_str());
    return 2;
  }
  simt::Block::current().seed(count > 2 ? std::atoi(arguments[2]) : 1);
#if defined(SIMT_RECORD)
  simt::Record record;
  simt::monitor() = &record;
#endif
  try {
    std::printf("%s\n", planted::kStates.at(arguments[1])() ? "right" : "wrong numbers");
  } catch (const simt::Fault& fault) {
    std::printf("%s\n", fault.what());
  }
#if defined(SIMT_RECORD)
  simt::monitor() = nullptr;
  std::printf("%s\n", record.json().c_str());
#endif
}
