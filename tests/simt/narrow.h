// float16 and bfloat16 on the CPU: storage, and conversions from and to float that round to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

#include "block.h"

namespace simt {

inline SIMT_QUIET uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline SIMT_QUIET float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Drops the last `count` bits of a float's mantissa: rounds to nearest, ties to even.
inline SIMT_QUIET uint32_t round_bits(uint32_t bits, int count) {
  const uint32_t half = uint32_t(1) << (count - 1);
  return (bits + half - 1 + ((bits >> count) & 1)) >> count;
}

}  // namespace simt

struct __nv_bfloat16 {
  uint16_t bits;
};

inline SIMT_QUIET float __bfloat162float(__nv_bfloat16 value) {
  return simt::float_of(uint32_t(value.bits) << 16);
}

inline SIMT_QUIET __nv_bfloat16 __float2bfloat16_rn(float value) {
  const uint32_t bits = simt::bits_of(value);
  if (value != value) return {0x7fff};
  return {uint16_t(simt::round_bits(bits, 16))};
}

struct __half {
  uint16_t bits;
};

inline SIMT_QUIET float __half2float(__half value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000) << 16, exponent = value.bits >> 10 & 31, rest = value.bits & 1023;
  if (exponent == 31) return simt::float_of(sign | 0x7f800000 | rest << 13);
  if (exponent) return simt::float_of(sign | (exponent + 112) << 23 | rest << 13);
  const float small = float(rest) * 0x1p-24f;
  return sign ? -small : small;
}

inline SIMT_QUIET __half __float2half_rn(float value) {
  const uint32_t bits = simt::bits_of(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return {0x7fff};
  if (size >= 0x47800000) return {uint16_t(sign | 0x7c00)};  // 65536 and above
  if (size >= 0x38800000) return {uint16_t(sign | simt::round_bits(size - 0x38000000, 13))};
  const float shifted = simt::float_of(size) + 0.5f;  // a multiple of 2^-24, by the hardware's rounding
  return {uint16_t(sign | (simt::bits_of(shifted) - 0x3f000000))};
}
