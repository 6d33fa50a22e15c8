// Vectors of the instruction set that for_each_isa.h is compiling for, on the compilers' vector extension: + - * and
// comparisons work on them and with scalars, and the compiler contracts a * b + c into one instruction where there is
// one. No include guard, on purpose.
namespace zfkernels::cpu::ZFK_ISA {

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(ZFK_VECTOR_BYTES)));
  typedef T unaligned __attribute__((vector_size(ZFK_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};
template <class T>
using Vector = typename VectorOf<T>::type;

// Elements in a vector of T.
template <class T>
inline constexpr int kLanes = ZFK_VECTOR_BYTES / sizeof(T);

#define ZFK_INLINE inline __attribute__((always_inline))

template <class T>
ZFK_INLINE Vector<T> load(const T* from) {
  return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(from);
}

template <class T>
ZFK_INLINE void store(T* to, Vector<T> value) {
  *reinterpret_cast<typename VectorOf<T>::unaligned*>(to) = value;
}

}  // namespace zfkernels::cpu::ZFK_ISA
