// The end of a row that no whole vector fills: `count` elements, of which a vector takes what it holds. Part of the
// loops that for_each_isa.h compiles.
#if defined(ZFK_VECTOR_ENDS) == defined(ZFK_TOGGLE)
#if defined(ZFK_VECTOR_ENDS)
#undef ZFK_VECTOR_ENDS
#else
#define ZFK_VECTOR_ENDS
#endif

#include "vectors.h"

namespace zfkernels::cpu::ZFK_ISA {

#if ZFK_VECTOR_BYTES == 64
// The first `count` of fewer than 16 lanes; none where it is negative.
ZFK_INLINE __mmask16 first_lanes(int64_t count) {
  return __mmask16((1u << (count > 0 ? count : 0)) - 1);
}
#endif

template <class T>
ZFK_INLINE Vector<T> load_some(const T* from, int64_t count) {
  if (count >= kLanes<T>) return load(from);
#if ZFK_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>) return _mm512_maskz_loadu_ps(first_lanes(count), from);
#endif
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
#if ZFK_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>) return _mm512_mask_storeu_ps(to, first_lanes(count), value);
#endif
  for (int64_t i = 0; i < count; ++i) to[i] = T(value[i]);
}

}  // namespace zfkernels::cpu::ZFK_ISA

#endif
