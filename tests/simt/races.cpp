#include "record.h"

namespace simt {
namespace {

int64_t block_rank() {
  const Block& block = Block::current();
  return block.block_index.x +
         int64_t(block.grid_size.x) * (block.block_index.y + int64_t(block.grid_size.y) * block.block_index.z);
}

Touch touch_now() {
  Block& block = Block::current();
  return {block.thread().rank, block.epoch(), block.warp().epoch, block_rank()};
}

// Nothing orders `before` and an access now.
bool unordered(const Touch& before, const Touch& now, bool shared) {
  if (before.thread == Touch::nobody) return false;
  if (before.block != now.block) return !shared;
  if (before.epoch != now.epoch) return false;
  if (before.thread == Touch::several) return true;
  if (before.thread == now.thread) return false;
  return before.thread / kWarp != now.thread / kWarp || before.warp_epoch == now.warp_epoch;
}

}  // namespace

void Races::note(const char* what, const Array& array, void* pc) {
  ++found[{std::string(what) + " of " + (array.shared ? "shared " : "global ") + *array.name, pc}];
}

void Races::check(Array& array, const char* address, size_t bytes, Access kind, void* pc) {
  const Touch now = touch_now();
  const bool atomic = kind == Access::atomic;
  const size_t last = (address - array.data + bytes - 1) / array.element;
  for (size_t i = (address - array.data) / array.element; i <= last && i < array.shadow.size(); ++i) {
    Shadow& shadow = array.shadow[i];
    if (shadow.pending) note("missing async wait: use", array, pc);
    if (unordered(shadow.write, now, array.shared) && !(atomic && shadow.atomic))
      note(kind == Access::load ? "race: read after write" : "race: write after write", array, pc);
    if (kind == Access::load) {
      const bool more = shadow.read.thread != Touch::nobody && shadow.read.block == now.block &&
                        shadow.read.epoch == now.epoch && shadow.read.thread != now.thread;
      if (shadow.read.thread != Touch::nobody && shadow.read.block != now.block) shadow.elsewhere = !array.shared;
      shadow.read = now;
      if (more) shadow.read.thread = Touch::several;
      continue;
    }
    if (!atomic && (shadow.elsewhere || unordered(shadow.read, now, array.shared)))
      note("race: write after read", array, pc);
    shadow.write = now;
    shadow.atomic = atomic;
  }
}

void Races::copy_begins(Array& array, const char* to, size_t bytes, void* pc) {
  check(array, to, bytes, Access::store, pc);
  for (size_t i = (to - array.data) / array.element; i < (to - array.data + bytes) / array.element; ++i)
    array.shadow[i].pending = true;
}

void Races::copy_lands(Array& array, const char* to, size_t bytes) {
  const Touch now = touch_now();
  for (size_t i = (to - array.data) / array.element; i < (to - array.data + bytes) / array.element; ++i) {
    array.shadow[i].pending = false;
    array.shadow[i].write = now;  // it is the barrier after the wait that shows the others what was copied
  }
}

}  // namespace simt
