#include <algorithm>

#include "record.h"

namespace simt {
namespace {

constexpr uintptr_t kSector = 32, kBanks = 32, kBankBytes = 4;

}  // namespace

Traffic::OfWarp& Traffic::warp_at(Access kind, bool shared, void* pc) {
  // A copy to shared memory reads and writes at one place in the source.
  const uint64_t which = uint64_t(kind) << 1 | uint64_t(shared);
  return block_[(reinterpret_cast<uint64_t>(pc) << 8 | which << 5) + Block::current().thread().rank / kWarp];
}

void Traffic::skip(Access kind, bool shared, void* pc) {
  ++warp_at(kind, shared, pc).count[Block::current().thread().lane()];
}

void Traffic::access(const Array& array, const char* address, size_t bytes, Access kind, void* pc) {
  Site& site = sites[{pc, array.name, kind, array.shared}];
  site.kind = kind;
  site.bytes = bytes;
  site.shared = array.shared;
  site.array = *array.name;
  const int lane = Block::current().thread().lane();
  OfWarp& warp = warp_at(kind, array.shared, pc);
  const size_t turn = warp.count[lane]++;
  if (warp.instructions.size() <= turn) warp.instructions.resize(turn + 1);
  auto& parts = warp.instructions[turn];
  auto part = std::find_if(parts.begin(), parts.end(), [&](const Part& known) { return known.site == &site; });
  if (part == parts.end()) part = parts.insert(part, Part{&site, 0, {}});
  part->address[lane] = address;
  part->lanes |= uint32_t(1) << lane;
}

void Traffic::end_of_block() {
  ++blocks;
  for (const auto& [key, warp] : block_)
    for (const std::vector<Part>& parts : warp.instructions)
      for (const Part& part : parts) {
        Site& site = *part.site;
        ++site.instructions;
        site.lanes += __builtin_popcount(part.lanes);
        site.shared ? add_shared(site, part) : add_global(site, part);
      }
  block_.clear();
}

// Ideal: the different bytes that the warp asks for, in as few sectors as can hold them.
void Traffic::add_global(Site& site, const Part& part) {
  std::unordered_set<uintptr_t> sectors;
  std::unordered_set<const char*> different;
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!(part.lanes >> lane & 1)) continue;
    const uintptr_t first = reinterpret_cast<uintptr_t>(part.address[lane]);
    different.insert(part.address[lane]);
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
void Traffic::add_shared(Site& site, const Part& part) {
  const int group = site.bytes > 8 ? 8 : site.bytes > 4 ? 16 : 32;
  for (int first = 0; first < kWarp; first += group) {
    std::vector<uintptr_t> words[kBanks];
    for (int lane = first; lane < first + group; ++lane) {
      if (!(part.lanes >> lane & 1)) continue;
      const uintptr_t from = reinterpret_cast<uintptr_t>(part.address[lane]) / kBankBytes;
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
