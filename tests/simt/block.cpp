#include "block.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace simt {
namespace {

struct Stop {};  // unwinds the threads that are left after a fault

// Groups of four, by the golden ratio: no period of the grid is met again and again.
int64_t sampled_block(int64_t i, int64_t blocks) {
  const double place = double(i / 4) * 0.6180339887498949;
  return int64_t((place - int64_t(place)) * double(blocks / 4)) * 4 + i % 4;
}

std::string describe(dim3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

}  // namespace

Block& Block::current() {
  static Block block;
  return block;
}

void Block::launch(dim3 grid, dim3 threads, size_t shared_bytes, const std::function<void()>& body) {
  const uint64_t count = uint64_t(threads.x) * threads.y * threads.z;
  if (count < 1 || count > 1024) throw Fault("launch: expected 1 to 1024 threads, got " + std::to_string(count));
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
    throw Fault("launch: expected a grid of at most (2^31 - 1, 65535, 65535) blocks, got " + describe(grid));
  const size_t most = emulated_device().most_shared_bytes;
  if (shared_bytes > most)
    throw Fault("launch: expected at most " + std::to_string(most) + " bytes of shared memory, got " +
                std::to_string(shared_bytes));
  grid_size = grid;
  block_size = threads;
  body_ = &body;
  shared_bytes_ = shared_bytes;
  count_ = int(count);
  error_ = nullptr;
  stopping_ = false;
  while (int(threads_.size()) < count_) threads_.push_back(std::make_unique<Thread>());
  order_.resize(count_);
  for (int i = 0; i < count_; ++i) order_[i] = i;
  const int64_t blocks = int64_t(grid.x) * grid.y * grid.z;
  const bool sampled = most_blocks_ && most_blocks_ < blocks;
  for (int64_t i = 0; i < (sampled ? most_blocks_ : blocks) && !error_; ++i) {
    const int64_t rank = sampled ? sampled_block(i, blocks) : i;
    block_index = dim3(rank % grid.x, rank / grid.x % grid.y, rank / grid.x / grid.y);
    run_block();
  }
  shared_.clear();
  if (error_) std::rethrow_exception(error_);
}

void Block::thread_body() {
  Block& block = current();
  try {
    (*block.body_)();
    if (!block.running_->copies.empty())
      throw Fault("missing async wait: " + std::to_string(block.running_->copies.size()) +
                  " asynchronous copies were never waited for by thread " + describe(block.running_->index));
  } catch (const Stop&) {
  } catch (...) {
    if (!block.error_) block.error_ = std::current_exception();
    block.stopping_ = true;
  }
  block.running_->state = Thread::done;
}

void Block::begin_block() {
  alive_ = count_;
  epoch_ = 0;
  votes_ = 0;
  shared_taken_ = 0;
  shared_.clear();
  warps_.assign((count_ + kWarp - 1) / kWarp, Warp{});
  for (int i = 0; i < count_; ++i) {
    Thread& thread = *threads_[i];
    const unsigned rank = i;
    thread.index = dim3(rank % block_size.x, rank / block_size.x % block_size.y, rank / (block_size.x * block_size.y));
    thread.rank = i;
    thread.state = Thread::ready;
    thread.copies.clear();
    thread.groups = thread.arrays = 0;
    thread.fiber.start(&thread_body);
  }
  mix_order();
  if (monitor()) monitor()->block_begins();
}

void Block::run_block() {
  begin_block();
  while (alive_ > 0) sweep();
  running_ = nullptr;
  if (monitor()) monitor()->block_ends();
}

// A new random order of the threads, for each stretch between barriers.
void Block::mix_order() {
  if (shuffle_) std::shuffle(order_.begin(), order_.end(), random_);
}

// Runs each thread that is ready until it waits; then lets a full barrier go.
void Block::sweep() {
  bool any = false;
  int waiting = 0;
  for (int i : order_) {
    Thread& thread = *threads_[i];
    if (thread.state == Thread::ready) {
      any = true;
      running_ = &thread;
      thread.fiber.resume();
      if (thread.state == Thread::done) --alive_;
    }
    if (thread.state == Thread::at_barrier) ++waiting;
  }
  if (stopping_) {
    for (int i = 0; i < count_; ++i)
      if (threads_[i]->state != Thread::done) threads_[i]->state = Thread::ready;
  } else if (alive_ && waiting == alive_) {
    release_barrier();
  } else if (!any && alive_) {
    const auto stuck = std::find_if(threads_.begin(), threads_.begin() + count_,
                                    [](const auto& thread) { return thread->state == Thread::in_warp; });
    fail(std::string("deadlock: some threads wait at a barrier, others for their warp at ") +
         (stuck == threads_.begin() + count_ ? "?" : (*stuck)->where));
  }
}

void Block::release_barrier() {
  const char* where = nullptr;
  for (int i = 0; i < count_; ++i) {
    Thread& thread = *threads_[i];
    if (thread.state != Thread::at_barrier) continue;
    if (where && std::strcmp(where, thread.where))
      return fail(std::string("divergent barrier: threads of one block wait at ") + where + " and at " + thread.where);
    where = thread.where;
    thread.state = Thread::ready;
  }
  if (alive_ != count_)
    return fail("divergent barrier: " + std::to_string(count_ - alive_) + " of " + std::to_string(count_) +
                " threads ended without coming to " + where);
  vote_ = votes_;
  votes_ = 0;
  ++epoch_;
  mix_order();
}

void Block::fail(const std::string& message) {
  if (!error_) error_ = std::make_exception_ptr(Fault(message));
  stopping_ = true;
  for (int i = 0; i < count_; ++i)
    if (threads_[i]->state != Thread::done) threads_[i]->state = Thread::ready;
}

void Block::pause(Thread::State state, const char* where) {
  Thread& me = *running_;
  me.state = state;
  me.where = where;
  me.fiber.leave(false);
  if (stopping_) throw Stop{};
}

void Block::barrier(const char* where) {
  pause(Thread::at_barrier, where);
}

void Block::warp_barrier(uint32_t mask) {
  Warp& mine = warp();
  if (meet(mask, "__syncwarp", nullptr, [](void* const*) {})) ++mine.epoch;
}

int Block::barrier_or(int vote, const char* where) {
  votes_ |= vote != 0;
  barrier(where);
  return vote_;
}

bool Block::meet(uint32_t mask, const char* operation, void* offer, void (*action)(void* const*)) {
  Thread& me = thread();
  Warp& mine = warp();
  const int first = me.rank - me.lane(), lanes = std::min(kWarp, count_ - first);
  const uint32_t bit = uint32_t(1) << me.lane();
  if (lanes < kWarp) mask &= (uint32_t(1) << lanes) - 1;
  if (!(mask & bit)) throw Fault(std::string("divergent warp: a lane outside its own mask calls ") + operation);
  if (mine.arrived && mine.operation != operation && std::strcmp(mine.operation, operation))
    throw Fault(std::string("divergent warp: lanes of one warp call ") + mine.operation + " and " + operation);
  mine.operation = operation;
  mine.arrived |= bit;
  me.offer = offer;
  if ((mine.arrived & mask) != mask) {
    pause(Thread::in_warp, operation);
    return false;
  }
  void* offers[kWarp] = {};
  for (int lane = 0; lane < lanes; ++lane)
    if (mask >> lane & 1) {
      Thread& other = *threads_[first + lane];
      offers[lane] = other.offer;
      if (other.state == Thread::in_warp) other.state = Thread::ready;
    }
  mine.arrived &= ~mask;
  action(offers);
  return true;
}

void* Block::take_shared(size_t bytes, size_t element, const char* name) {
  const size_t place = thread().arrays++;
  if (place == shared_.size()) {
    shared_taken_ += (bytes + 15) / 16 * 16;
    if (shared_taken_ > shared_bytes_)
      throw Fault("shared memory: " + std::to_string(shared_bytes_) + " bytes were asked for at launch, " +
                  std::to_string(shared_taken_) + " are taken with array " + name);
    // A heap block of its own, so that AddressSanitizer sees its exact bounds; all ones, so that it reads as NaN.
    void* data = nullptr;
    if (posix_memalign(&data, 16, bytes)) throw std::bad_alloc();
    std::memset(data, 0xff, bytes);
    shared_.push_back({name, {static_cast<char*>(data), &std::free}, bytes});
    if (monitor()) monitor()->array(name, data, bytes, element, true);
  }
  if (shared_[place].bytes != bytes || shared_[place].name != name)
    throw Fault("shared memory: threads of one block take " + shared_[place].name + " and " + name);
  return shared_[place].data.get();
}

// What a copy brings is seen only after its wait; until then its place holds NaN.
void Block::copy_async(void* to, const void* from, size_t bytes, size_t copied, void* pc) {
  if ((bytes != 4 && bytes != 8 && bytes != 16) || copied > bytes)
    throw Fault("cp.async: expected 4, 8 or 16 bytes, got " + std::to_string(copied) + " of " + std::to_string(bytes));
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % bytes)
    throw Fault("cp.async: expected addresses aligned to " + std::to_string(bytes) + " bytes");
  if (monitor()) {
    copied ? monitor()->access(from, copied, Access::load, pc) : monitor()->skip(Access::load, false, pc);
    monitor()->copy_begins(to, bytes, pc);
  }
  std::memset(to, 0xff, bytes);
  running_->copies.push_back({to, from, copied, bytes - copied, running_->groups});
}

void Block::wait_copies(int left) {
  auto& copies = running_->copies;
  const auto landed = [&](const Copy& copy) { return copy.group < running_->groups - left; };
  for (const Copy& copy : copies) {
    if (!landed(copy)) continue;
    std::memcpy(copy.to, copy.from, copy.bytes);
    std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, copy.zeros);
    if (monitor()) monitor()->copy_lands(copy.to, copy.bytes + copy.zeros);
  }
  copies.erase(std::remove_if(copies.begin(), copies.end(), landed), copies.end());
}

}  // namespace simt
