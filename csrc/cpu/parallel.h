// Work shared out over torch's threads, and memory for it.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>

namespace zfkernels::cpu {

// Hands out the numbers 0 … count - 1, each once.
class Tasks {
 public:
  explicit Tasks(int64_t count) : count_(count) {}
  bool next(int64_t& task) { return (task = next_.fetch_add(1, std::memory_order_relaxed)) < count_; }

 private:
  const int64_t count_;
  std::atomic<int64_t> next_{0};
};

// Calls worker(tasks) on each thread; a worker makes its scratch memory and then takes tasks until there are none, so
// that a slow core holds nobody up. Each task must write its own part of the output, and nothing else may depend on who
// runs it: results are then the same for every number of threads.
template <class Worker>
void share_out(int64_t count, const Worker& worker) {
  if (count <= 0) return;
  Tasks tasks(count);
  const int64_t threads = torch::stable::get_num_threads();
  torch::stable::parallel_for(0, threads < count ? threads : count, 1, [&](int64_t first, int64_t last) {
    if (first < last) worker(tasks);
  });
}

// share_out for workers without scratch memory: body(task).
template <class Body>
void for_each_task(int64_t count, const Body& body) {
  share_out(count, [&](Tasks& tasks) {
    for (int64_t task; tasks.next(task);) body(task);
  });
}

// Uninitialised memory on a cache line's boundary, with a vector's worth to spare at its end for overhanging loads.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : data_(static_cast<T*>(::operator new(count * sizeof(T) + kLine, std::align_val_t(kLine)))) {}
  T* get() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr size_t kLine = 64;
  struct Free {
    void operator()(T* data) const { ::operator delete(data, std::align_val_t(kLine)); }
  };
  std::unique_ptr<T[], Free> data_;
};

}  // namespace zfkernels::cpu
