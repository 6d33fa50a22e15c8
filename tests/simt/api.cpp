// What Python asks of the emulator, through ctypes.
#include <memory>
#include <string>

#include "block.h"
#if defined(SIMT_RECORD)
#include "record.h"
#endif

#define SIMT_API extern "C" __attribute__((visibility("default")))

SIMT_API void simt_seed(unsigned seed) {
  simt::Block::current().seed(seed);
}
SIMT_API void simt_device(int major, int least_matrix_outputs, size_t most_shared_bytes) {
  simt::emulated_device() = {major, least_matrix_outputs, most_shared_bytes};
}
SIMT_API void simt_sample(int64_t blocks) {
  simt::Block::current().sample(blocks);
}

#if defined(SIMT_RECORD)
namespace {
std::unique_ptr<simt::Record> record;
std::string report;
}  // namespace

SIMT_API void simt_record_begin(bool races) {
  record = std::make_unique<simt::Record>(races);
  simt::monitor() = record.get();
}
SIMT_API const char* simt_record_end() {
  simt::monitor() = nullptr;
  report = record->json();
  record.reset();
  return report.c_str();
}
#endif
