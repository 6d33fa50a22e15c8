// The race and traffic runtime: what a kernel did to memory, by array and line of source.
//
// The kernels' translation units are compiled with -fsanitize=thread, so that the compiler calls __tsan_read4 and the
// like before each access, and linked to instrumented.cpp in place of ThreadSanitizer's own library.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "block.h"

namespace simt {

// Who touched one number last.
struct Touch {
  enum : int { nobody = -1, several = -2 };
  int thread = nobody;
  unsigned epoch = 0, warp_epoch = 0;  // barriers and __syncwarps before
  int64_t block = -1;
};

struct Shadow {
  Touch write, read;
  bool elsewhere = false;  // blocks other than that of the last read have read it, too
  bool atomic = false;     // the write was
  bool pending = false;    // an asynchronous copy has not arrived yet
};

struct Array {
  const std::string* name;  // the same for all arrays of a name
  const char* data;
  size_t bytes, element;
  bool shared;
  std::vector<Shadow> shadow;

  bool holds(const char* address) const { return address >= data && address < data + bytes; }
};

// Races between threads that neither a barrier, a __syncwarp nor atomics order. Exact for the order that was run: every
// access is compared with the last write and the last reads of the same number.
class Races {
 public:
  void check(Array& array, const char* address, size_t bytes, Access kind, void* pc);
  void copy_begins(Array& array, const char* to, size_t bytes, void* pc);
  void copy_lands(Array& array, const char* to, size_t bytes);
  std::map<std::pair<std::string, void*>, int64_t> found;  // (what, where) -> how often

 private:
  void note(const char* what, const Array& array, void* pc);
};

// One place in the source that accesses memory. Units: sectors of 32 bytes, or passes over the 32 banks.
struct Site {
  Access kind = Access::load;
  size_t bytes = 0;
  bool shared = false;
  std::string array;
  int64_t instructions = 0, lanes = 0, units = 0, ideal = 0;
};

// Sectors and bank conflicts of each instruction of each warp. The n-th access of each lane at one place, made or
// skipped, is taken for one instruction, which is exact where a warp's lanes do not diverge.
class Traffic {
 public:
  void access(const Array& array, const char* address, size_t bytes, Access kind, void* pc);
  void skip(Access kind, bool shared, void* pc);
  void end_of_block();
  using Where = std::tuple<void*, const std::string*, Access, bool>;  // line, array, what, whether it is shared
  std::map<Where, Site> sites;
  int64_t cold_read = 0, cold_written = 0;  // bytes of the sectors touched at all: the least that DRAM has to move
  int64_t blocks = 0;

 private:
  // What one instruction of a warp asks of one array.
  struct Part {
    Site* site;
    uint32_t lanes;
    const char* address[kWarp];
  };
  struct OfWarp {
    std::vector<std::vector<Part>> instructions;
    int count[kWarp] = {};
  };
  OfWarp& warp_at(Access kind, bool shared, void* pc);
  void add_global(Site& site, const Part& part);
  void add_shared(Site& site, const Part& part);

  std::unordered_map<uint64_t, OfWarp> block_;  // by line, kind of access and warp
  std::unordered_set<uintptr_t> sectors_read_, sectors_written_;
};

struct Launch {
  const void* kernel;
  int64_t blocks;
  int threads;
  size_t shared_bytes;
  int64_t run = 0, multiply_adds = 0;  // blocks that ran, and what they did
};

class Record : public Monitor {
 public:
  // Without races the shadow of large arrays, many times their size, is not needed.
  explicit Record(bool races = true) : with_races_(races) {}
  void array(const char* name, const void* data, size_t bytes, size_t element, bool shared) override;
  void launch(const void* kernel, int64_t blocks, int threads, size_t shared_bytes) override {
    launches.push_back({kernel, blocks, threads, shared_bytes});
    for (Array& array : arrays_) std::fill(array.shadow.begin(), array.shadow.end(), Shadow{});  // one after the other
  }
  void block_begins() override;
  void block_ends() override { traffic.end_of_block(); }
  void access(const void* address, size_t bytes, Access kind, void* pc) override;
  void skip(Access kind, bool shared, void* pc) override { traffic.skip(kind, shared, pc); }
  void copy_begins(const void* to, size_t bytes, void* pc) override;
  void copy_lands(const void* to, size_t bytes) override;
  void multiply_adds(int64_t count) override { launches.back().multiply_adds += count; }

  std::string json() const;
  Races races;
  Traffic traffic;
  std::vector<Launch> launches;

 private:
  Array* find(const void* address);
  const bool with_races_;
  std::set<std::string> names_;
  std::vector<Array> arrays_;
  size_t last_ = 0;
};

// "file:line" of an instruction, by addr2line.
std::string source_line(void* pc);
// The mangled name of a function.
std::string symbol(const void* function);

}  // namespace simt
