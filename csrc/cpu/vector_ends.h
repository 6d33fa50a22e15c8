// The end of a row that no whole vector fills: `count` elements, of which a vector takes what it holds. Part of the
// loops that for_each_isa.h compiles.
namespace zfkernels::cpu::ZFK_ISA {

template <class T>
ZFK_INLINE Vector<T> load_some(const T* from, int64_t count) {
  if (count >= kLanes<T>) return load(from);
  Vector<T> value{};
  for (int64_t i = 0; i < count; ++i) value[i] = Wide<T>(from[i]);
  return value;
}

template <class T>
ZFK_INLINE Integers<T> load_some_bytes(const uint8_t* from, int64_t count) {
  uint8_t bytes[kLanes<T>] = {};
  for (int64_t i = 0; i < count && i < kLanes<T>; ++i) bytes[i] = from[i];
  return load_bytes<T>(bytes);
}

template <class T>
ZFK_INLINE void store_some(T* to, Vector<T> value, int64_t count) {
  if (count >= kLanes<T>) return store(to, value);
  for (int64_t i = 0; i < count; ++i) to[i] = T(value[i]);
}

}  // namespace zfkernels::cpu::ZFK_ISA
