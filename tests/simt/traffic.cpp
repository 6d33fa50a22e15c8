#include <algorithm>

#include "record.h"

namespace simt {
namespace {

constexpr uintptr_t kSector = 32, kBanks = 32, kBankBytes = 4;

}  // namespace

void Traffic::access(const Array& array, const char* address, size_t bytes, Access kind, void* pc) {
  const Thread& thread = Block::current().thread();
  const int rank = thread.rank / kWarp;
  const uint64_t key = (reinterpret_cast<uint64_t>(pc) << 5 ^ reinterpret_cast<uint64_t>(array.name) << 21) + rank;
  OfWarp& warp = block_[key];
  if (!warp.site) {
    warp.site = &sites[{pc, array.name}];
    *warp.site = {kind,
                  bytes,
                  array.shared,
                  *array.name,
                  warp.site->instructions,
                  warp.site->lanes,
                  warp.site->units,
                  warp.site->ideal};
  }
  const size_t turn = warp.count[thread.lane()]++;
  if (warp.instructions.size() <= turn) warp.instructions.resize(turn + 1);
  warp.instructions[turn].address[thread.lane()] = address;
  warp.instructions[turn].lanes |= uint32_t(1) << thread.lane();
}

void Traffic::end_of_block() {
  ++blocks;
  for (const auto& [key, warp] : block_) {
    Site& site = *warp.site;
    for (const Instruction& instruction : warp.instructions) {
      ++site.instructions;
      site.lanes += __builtin_popcount(instruction.lanes);
      site.shared ? add_shared(site, instruction) : add_global(site, instruction);
    }
  }
  block_.clear();
}

// Ideal: the different bytes that the warp asks for, in as few sectors as can hold them.
void Traffic::add_global(Site& site, const Instruction& instruction) {
  std::unordered_set<uintptr_t> sectors;
  std::unordered_set<const char*> different;
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!(instruction.lanes >> lane & 1)) continue;
    const uintptr_t first = reinterpret_cast<uintptr_t>(instruction.address[lane]);
    different.insert(instruction.address[lane]);
    for (uintptr_t sector = first / kSector; sector <= (first + site.bytes - 1) / kSector; ++sector)
      sectors.insert(sector);
  }
  site.units += sectors.size();
  site.ideal += (different.size() * site.bytes + kSector - 1) / kSector;
  auto& known = site.kind == Access::load ? sectors_read_ : sectors_written_;
  for (uintptr_t sector : sectors)
    if (known.insert(sector).second) (site.kind == Access::load ? cold_read : cold_written) += kSector;
}

// A bank delivers one word of 4 bytes at a time, to all that want it. Lanes go in groups that need all banks once:
// 32 of 4 bytes, 16 of 8, 8 of 16. Ideal: one pass for each group.
void Traffic::add_shared(Site& site, const Instruction& instruction) {
  const int group = site.bytes > 8 ? 8 : site.bytes > 4 ? 16 : 32;
  for (int first = 0; first < kWarp; first += group) {
    std::vector<uintptr_t> words[kBanks];
    for (int lane = first; lane < first + group; ++lane) {
      if (!(instruction.lanes >> lane & 1)) continue;
      const uintptr_t from = reinterpret_cast<uintptr_t>(instruction.address[lane]) / kBankBytes;
      for (uintptr_t word = from; word < from + std::max<size_t>(1, site.bytes / kBankBytes); ++word) {
        auto& asked = words[word % kBanks];
        if (std::find(asked.begin(), asked.end(), word) == asked.end()) asked.push_back(word);
      }
    }
    size_t passes = 0;
    for (const auto& asked : words) passes = std::max(passes, asked.size());
    site.units += passes;
    site.ideal += passes > 0;
  }
}

}  // namespace simt
