#include "record.h"

#include <dlfcn.h>

#include <cstdio>
#include <sstream>

namespace simt {
namespace {

std::string output_of(const std::string& command) {
  std::string output;
  if (FILE* pipe = popen(command.c_str(), "r")) {
    char part[512];
    while (fgets(part, sizeof part, pipe)) output += part;
    pclose(pipe);
  }
  return output;
}

const char* name_of(Access kind) {
  return kind == Access::load ? "load" : kind == Access::store ? "store" : "atomic";
}

}  // namespace

std::string symbol(const void* function) {
  Dl_info library;
  if (!dladdr(function, &library)) return "?";
  char command[1024];
  const long offset = static_cast<const char*>(function) - static_cast<char*>(library.dli_fbase);
  std::snprintf(command, sizeof command, "addr2line -f -e '%s' 0x%lx", library.dli_fname, offset);
  const std::string lines = output_of(command);
  return lines.substr(0, lines.find('\n'));
}

std::string source_line(void* pc) {
  static std::map<void*, std::string> known;
  std::string& line = known[pc];
  if (!line.empty()) return line;
  Dl_info library;
  if (!dladdr(pc, &library)) return line = "?";
  char command[1024];
  // The call returns to the instruction after it.
  const long offset = static_cast<char*>(pc) - 1 - static_cast<char*>(library.dli_fbase);
  std::snprintf(command, sizeof command, "addr2line -e '%s' 0x%lx", library.dli_fname, offset);
  line = output_of(command);
  line = line.substr(line.rfind('/') == std::string::npos ? 0 : line.rfind('/') + 1);
  return line = line.substr(0, line.find_first_of(" \n"));
}

void Record::array(const char* name, const void* data, size_t bytes, size_t element, bool shared) {
  const char* first = static_cast<const char*>(data);
  for (const Array& array : arrays_)
    if (array.holds(first)) return;
  arrays_.push_back({&*names_.insert(name).first, first, bytes, element, shared,
                     std::vector<Shadow>(with_races_ ? bytes / element : 0)});
}

void Record::block_begins() {
  const auto shared = [](const Array& array) { return array.shared; };
  arrays_.erase(std::remove_if(arrays_.begin(), arrays_.end(), shared), arrays_.end());
  ++launches.back().run;
}

// Null: a thread's own stack, or memory of the host's.
Array* Record::find(const void* address) {
  const char* at = static_cast<const char*>(address);
  if (last_ < arrays_.size() && arrays_[last_].holds(at)) return &arrays_[last_];
  for (last_ = 0; last_ < arrays_.size(); ++last_)
    if (arrays_[last_].holds(at)) return &arrays_[last_];
  return nullptr;
}

void Record::access(const void* address, size_t bytes, Access kind, void* pc) {
  if (!Block::current().inside() || Block::current().thread().fiber.holds(address)) return;
  Array* array = find(address);
  if (!array) return;
  if (with_races_) races.check(*array, static_cast<const char*>(address), bytes, kind, pc);
  traffic.access(*array, static_cast<const char*>(address), bytes, kind, pc);
}

void Record::copy_begins(const void* to, size_t bytes, void* pc) {
  Array* array = find(to);
  if (!array) return;
  if (with_races_) races.copy_begins(*array, static_cast<const char*>(to), bytes, pc);
  traffic.access(*array, static_cast<const char*>(to), bytes, Access::store, pc);
}

void Record::copy_lands(const void* to, size_t bytes) {
  if (!with_races_) return;
  if (Array* array = find(to)) races.copy_lands(*array, static_cast<const char*>(to), bytes);
}

std::string Record::json() const {
  // Several instructions of one line, such as those of an unrolled loop, are one entry.
  std::map<std::string, int64_t> faults;
  for (const auto& [what, count] : races.found) faults[what.first + " at " + source_line(what.second)] += count;
  std::map<std::tuple<std::string, std::string, std::string, size_t, bool>, Site> lines;
  for (const auto& [place, site] : traffic.sites) {
    Site& line = lines[{source_line(std::get<0>(place)), site.array, name_of(site.kind), site.bytes, site.shared}];
    line.instructions += site.instructions;
    line.lanes += site.lanes;
    line.units += site.units;
    line.ideal += site.ideal;
  }
  std::ostringstream out;
  out << "{\"faults\": {";
  const char* comma = "";
  for (const auto& [what, count] : faults) out << comma << "\"" << what << "\": " << count, comma = ", ";
  out << "}, \"lines\": [";
  comma = "";
  for (const auto& [key, line] : lines) {
    const auto& [where, array, kind, bytes, shared] = key;
    out << comma << "{\"where\": \"" << where << "\", \"array\": \"" << array << "\", \"access\": \"" << kind
        << "\", \"bytes\": " << bytes << ", \"shared\": " << (shared ? "true" : "false")
        << ", \"instructions\": " << line.instructions << ", \"lanes\": " << line.lanes << ", \"units\": " << line.units
        << ", \"ideal\": " << line.ideal << "}";
    comma = ", ";
  }
  out << "], \"launches\": [";
  comma = "";
  for (const Launch& launch : launches) {
    out << comma << "{\"kernel\": \"" << symbol(launch.kernel) << "\", \"blocks\": " << launch.blocks
        << ", \"threads\": " << launch.threads << ", \"shared\": " << launch.shared_bytes << ", \"run\": " << launch.run
        << ", \"multiply_adds\": " << launch.multiply_adds << "}";
    comma = ", ";
  }
  out << "], \"blocks\": " << traffic.blocks << ", \"cold_read\": " << traffic.cold_read
      << ", \"cold_written\": " << traffic.cold_written << "}";
  return out.str();
}

}  // namespace simt
