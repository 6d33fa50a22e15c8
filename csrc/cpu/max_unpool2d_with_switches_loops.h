// The hot loop of max_unpool2d_with_switches_kernel.cpp; see for_each_isa.h.
#include "vector_ends.h"

namespace zfkernels::cpu::ZFK_ISA {

// One pixel, all its channels: what the windows that cover it hold where their switch names it, added up (kSum) or the
// last of them. Channels lie side by side.
template <class T, bool kSum>
void gather_cell(const Cover<T>* covers, int64_t count, int64_t channels, T* out) {
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Code;
  typedef uint8_t Bytes __attribute__((vector_size(kLanes<T>), aligned(1), may_alias));
  int64_t c = 0;
  for (; c + kLanes<T> <= channels; c += kLanes<T>) {
    Vector<T> cell{};
    for (int64_t i = 0; i < count; ++i) {
      const Bytes bytes = *reinterpret_cast<const Bytes*>(covers[i].codes + c);
      const auto named = __builtin_convertvector(bytes, Vector<Code>) == Code(covers[i].code);
      const Vector<T> value = load(covers[i].values + c);
      cell = kSum ? cell + (named ? value : Vector<T>{}) : (named ? value : cell);
    }
    store(out + c, cell);
  }
  for (; c < channels; ++c) {
    T cell = 0;
    for (int64_t i = 0; i < count; ++i)
      if (covers[i].codes[c] == covers[i].code) cell = kSum ? cell + covers[i].values[c] : covers[i].values[c];
    out[c] = cell;
  }
}

}  // namespace zfkernels::cpu::ZFK_ISA
