// Vectors of floats on the vector extensions of GCC and Clang: one source, 4, 8 or 16 lanes, whatever the file is compiled for.
//
// Why these: they come with the compiler. `std::experimental::simd` is missing from libc++, Highway and xsimd would have to be
// there when a user builds. Intrinsics are used only where the extension has no word for it: parts of vectors and float16.
// Only `.simd.cc` files include this.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "isa.h"

#ifndef HEADWAY_ISA
#error "compile with -DHEADWAY_ISA=…"
#endif

#define HEADWAY_INLINE inline __attribute__((always_inline))

namespace headway::HEADWAY_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Float __attribute__((vector_size(kLanes * 4)));
typedef int32_t Int __attribute__((vector_size(kLanes * 4)));
typedef float LooseFloat __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

constexpr float kInfinity = std::numeric_limits<float>::infinity();

HEADWAY_INLINE Float set(float value) { return value - Float{}; }
HEADWAY_INLINE Float load(const float* from) { return *reinterpret_cast<const LooseFloat*>(from); }
HEADWAY_INLINE void store(float* to, Float value) { *reinterpret_cast<LooseFloat*>(to) = value; }
// The larger; the second where the first is NaN.
HEADWAY_INLINE Float larger(Float a, Float b) { return a > b ? a : b; }
HEADWAY_INLINE Float as_float(Int bits) { return reinterpret_cast<Float>(bits); }
HEADWAY_INLINE Int as_int(Float bits) { return reinterpret_cast<Int>(bits); }

// The first `count` lanes, 0 < count < kLanes; others are `otherwise` and their memory is not touched.
HEADWAY_INLINE Float load_part(const float* from, int count, float otherwise) {
#if defined(__AVX512F__)
  return _mm512_mask_loadu_ps(set(otherwise), static_cast<__mmask16>((1u << count) - 1), from);
#else
  alignas(64) float lanes[kLanes];
  store(lanes, set(otherwise));
  for (int i = 0; i < count; ++i) lanes[i] = from[i];
  return load(lanes);
#endif
}
HEADWAY_INLINE void store_part(float* to, Float value, int count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), value);
#else
  alignas(64) float lanes[kLanes];
  store(lanes, value);
  for (int i = 0; i < count; ++i) to[i] = lanes[i];
#endif
}

// float16 storage: arithmetic is float32 throughout.
HEADWAY_INLINE Float load(const Half* from) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__AVX2__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__ARM_NEON)
  return (Float)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&from->bits)));
#else
  Float value;
  for (int i = 0; i < kLanes; ++i) {  // exponent and fraction move over, a product sets the exponent right, denormals included
    const uint32_t half = from[i].bits;
    const uint32_t magnitude = half & 0x7fffu;
    union { uint32_t bits; float number; } made = {magnitude << 13}, factor = {0x77800000u};
    made.number *= factor.number;
    if (magnitude >= 0x7c00u) made.bits |= 0x7f800000u;
    made.bits |= (half & 0x8000u) << 16;
    value[i] = made.number;
  }
  return value;
#endif
}
HEADWAY_INLINE void store(Half* to, Float value) {  // rounds to nearest even
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__AVX2__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__ARM_NEON)
  vst1_u16(&to->bits, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)value)));
#else
  for (int i = 0; i < kLanes; ++i) {
    union { float number; uint32_t bits; } made = {value[i]};
    const uint32_t sign = (made.bits >> 16) & 0x8000u, magnitude = made.bits & 0x7fffffffu;
    uint32_t half;
    if (magnitude > 0x7f800000u) half = 0x7e00u;
    else if (magnitude >= 0x477ff000u) half = 0x7c00u;  // rounds beyond the largest
    else if (magnitude < 0x38800000u) {                 // denormal: the sum lines the fraction up, and rounds it
      union { uint32_t bits; float number; } sum = {magnitude};
      sum.number += 0.5f;
      half = sum.bits - 0x3f000000u;
    } else half = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
    to[i].bits = static_cast<uint16_t>(half | sign);
  }
#endif
}
HEADWAY_INLINE Float load_part(const Half* from, int count, float otherwise) {
  Half lanes[kLanes] = {};
  for (int i = 0; i < count; ++i) lanes[i] = from[i];
  Float value = load(lanes);
  alignas(64) float wide[kLanes];
  store(wide, value);
  for (int i = count; i < kLanes; ++i) wide[i] = otherwise;
  return load(wide);
}
HEADWAY_INLINE void store_part(Half* to, Float value, int count) {
  Half lanes[kLanes];
  store(lanes, value);
  for (int i = 0; i < count; ++i) to[i] = lanes[i];
}

HEADWAY_INLINE float load_one(const float* from) { return *from; }
HEADWAY_INLINE float load_one(const Half* from) { return load_part(from, 1, 0.0f)[0]; }

HEADWAY_INLINE float sum_of(Float value) {
  float total[kLanes];
  store(total, value);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) total[i] += total[i + half];
  return total[0];
}
HEADWAY_INLINE float largest_of(Float value) {  // of numbers that are not NaN
  float most[kLanes];
  store(most, value);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) most[i] = most[i] > most[i + half] ? most[i] : most[i + half];
  return most[0];
}

// 2^n for whole n in [-252, 254] as two factors, so that results below the smallest normal number are rounded once.
HEADWAY_INLINE Float scaled(Float value, Int n) {
  const Int half = n >> 1;
  return value * as_float((half + 127) << 23) * as_float((n - half + 127) << 23);
}

// e^x within 2 ulp for every float: infinity above 88.7, denormals below -87.3, 0 below -104, NaN for NaN.
// n = round(x / ln 2); e^(x - n ln 2) by a polynomial of degree 6 (minimax, relative error 1.7e-8), ln 2 in two parts.
HEADWAY_INLINE Float exp(Float x) {
  const Float above = x > set(89.0f) ? set(89.0f) : x;  // NaN passes both
  const Float inside = above < set(-105.0f) ? set(-105.0f) : above;
  const Float shifted = inside * set(1.44269504f) + set(12582912.0f);  // 1.5 * 2^23: the sum's last bits are the whole number
  const Float n = shifted - set(12582912.0f);
  const Float r = inside - n * set(0.693145752f) - n * set(1.42860677e-6f);
  Float p = set(0x1.6ae73p-10f);
  p = p * r + set(0x1.12678p-7f);
  p = p * r + set(0x1.555822p-5f);
  p = p * r + set(0x1.55541ap-3f);
  p = p * r + set(0x1.fffffcp-2f);
  p = p * r + set(1.0f);
  p = p * r + set(1.0f);
  return scaled(p, as_int(shifted) - 0x4b400000);
}

// 2^x for x <= 0 within 2 ulp where the result is a normal number, 0 below 2^-126; NaN for NaN.
HEADWAY_INLINE Float exp2_below(Float x) {
  const Float inside = x < set(-127.0f) ? set(-127.0f) : x;
  const Float shifted = inside + set(12582912.0f);
  const Float r = inside - (shifted - set(12582912.0f));
  Float p = set(0x1.41fbbcp-13f);
  p = p * r + set(0x1.5f3e52p-10f);
  p = p * r + set(0x1.3b2d4cp-7f);
  p = p * r + set(0x1.c6aee8p-5f);
  p = p * r + set(0x1.ebfbdcp-3f);
  p = p * r + set(0x1.62e43p-1f);
  p = p * r + set(1.0f);
  return p * as_float((as_int(shifted) - 0x4b400000 + 127) << 23);
}

}  // namespace
}  // namespace headway::HEADWAY_ISA
