// Vectors of floats on the vector extensions of GCC and Clang: one source for 4, 8 or 16 lanes, as the file is compiled.
//
// Why our own: the extensions come with the compiler. `std::experimental::simd` is missing from libc++; Highway and xsimd would
// have to be installed where a user builds. Intrinsics are used only for what the extensions lack: parts of vectors and float16.
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

constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: the last bits of a sum with it are the nearest integer
constexpr int32_t kRoundBits = 0x4b400000;

template <int...>
struct Lanes {};
template <int kCount, int... kLane>
struct MakeLanes : MakeLanes<kCount - 1, kCount - 1, kLane...> {};
template <int... kLane>
struct MakeLanes<0, kLane...> {
  using Type = Lanes<kLane...>;
};
using AllLanes = typename MakeLanes<kLanes>::Type;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

HEADWAY_INLINE Float set(float value) { return value - Float{}; }
HEADWAY_INLINE Float load(const float* from) { return *reinterpret_cast<const LooseFloat*>(from); }
HEADWAY_INLINE void store(float* to, Float value) { *reinterpret_cast<LooseFloat*>(to) = value; }
// Stores past the caches, to an address that is a multiple of the vector's size; `streamed` makes it visible to other threads.
HEADWAY_INLINE void stream(float* to, Float value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, value);
#elif defined(__AVX2__)
  _mm256_stream_ps(to, value);
#elif defined(__x86_64__)
  _mm_stream_ps(to, value);
#else
  store(to, value);
#endif
}
HEADWAY_INLINE void streamed() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}
// Keeps the compiler from fusing a multiplication and an addition into one operation with one rounding.
HEADWAY_INLINE Float unfused(Float value) {
#if defined(__AVX512F__)
  asm("" : "+v"(value));
#elif defined(__x86_64__)
  asm("" : "+x"(value));
#else
  asm("" : "+w"(value));
#endif
  return value;
}
// Returns the second where one is NaN.
HEADWAY_INLINE Float larger(Float a, Float b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
HEADWAY_INLINE Float smaller(Float a, Float b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
HEADWAY_INLINE Float as_float(Int bits) { return reinterpret_cast<Float>(bits); }
HEADWAY_INLINE Int as_int(Float bits) { return reinterpret_cast<Int>(bits); }
HEADWAY_INLINE Float absolute(Float x) { return as_float(as_int(x) & 0x7fffffff); }

// Returns a * b + c rounded once, so that instruction sets with and without such an instruction agree.
HEADWAY_INLINE Float fused(Float a, Float b, Float c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__ARM_NEON)
  return (Float)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  for (int i = 0; i < kLanes; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

// Loads the first `count` lanes, 0 < count < kLanes; others are `otherwise` and their memory is not touched.
HEADWAY_INLINE Float load_part(const float* from, int count, float otherwise) {
#if defined(__AVX512F__)
  return _mm512_mask_loadu_ps(set(otherwise), static_cast<__mmask16>((1u << count) - 1), from);
#elif defined(__AVX2__)
  const __m256i there = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return _mm256_blendv_ps(set(otherwise), _mm256_maskload_ps(from, there), _mm256_castsi256_ps(there));
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
#elif defined(__AVX2__)
  const __m256i there = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  _mm256_maskstore_ps(to, there, value);
#else
  alignas(64) float lanes[kLanes];
  store(lanes, value);
  for (int i = 0; i < count; ++i) to[i] = lanes[i];
#endif
}

HEADWAY_INLINE Float load_upto(const float* from, int64_t count) {
  return count >= kLanes ? load(from) : count <= 0 ? Float{} : load_part(from, static_cast<int>(count), 0.0f);
}

// float16 is for storage only: all arithmetic is float32.
HEADWAY_INLINE Float load(const Half* from) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__AVX2__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__ARM_NEON)
  return (Float)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&from->bits)));
#else
  Float value;
  for (int i = 0; i < kLanes; ++i) {  // shift exponent and fraction; a multiplication corrects the exponent, also of denormals
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
    else if (magnitude < 0x38800000u) {                 // denormal: the sum aligns the fraction and rounds it
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

// Converts int8 and uint8. Storing rounds to nearest even and saturates; NaN gives the smallest.
HEADWAY_INLINE Float load(const uint8_t* from) {
  typedef uint8_t Bytes __attribute__((vector_size(kLanes), aligned(1), may_alias));
  return __builtin_convertvector(__builtin_convertvector(*reinterpret_cast<const Bytes*>(from), Int), Float);
}
HEADWAY_INLINE Float load(const int8_t* from) {
  typedef int8_t Bytes __attribute__((vector_size(kLanes), aligned(1), may_alias));
  return __builtin_convertvector(__builtin_convertvector(*reinterpret_cast<const Bytes*>(from), Int), Float);
}
template <class Byte>
HEADWAY_INLINE void store_bytes(Byte* to, Float value, float least, float most) {
  typedef Byte Bytes __attribute__((vector_size(kLanes), aligned(1), may_alias));
  const Float above = value > set(least) ? value : set(least);
  const Float inside = above < set(most) ? above : set(most);
  const Int whole = as_int(inside + set(kRound)) - kRoundBits;
  *reinterpret_cast<Bytes*>(to) = __builtin_convertvector(whole, Bytes);
}
HEADWAY_INLINE void store(uint8_t* to, Float value) { store_bytes(to, value, 0.0f, 255.0f); }
HEADWAY_INLINE void store(int8_t* to, Float value) { store_bytes(to, value, -128.0f, 127.0f); }
template <class Byte>
HEADWAY_INLINE Float load_part_bytes(const Byte* from, int count, float otherwise) {
  Byte lanes[kLanes] = {};
  for (int i = 0; i < count; ++i) lanes[i] = from[i];
  alignas(64) float wide[kLanes];
  store(wide, load(lanes));
  for (int i = count; i < kLanes; ++i) wide[i] = otherwise;
  return load(wide);
}
HEADWAY_INLINE Float load_part(const uint8_t* from, int count, float otherwise) { return load_part_bytes(from, count, otherwise); }
HEADWAY_INLINE Float load_part(const int8_t* from, int count, float otherwise) { return load_part_bytes(from, count, otherwise); }
template <class Byte>
HEADWAY_INLINE void store_part_bytes(Byte* to, Float value, int count) {
  Byte lanes[kLanes];
  store(lanes, value);
  for (int i = 0; i < count; ++i) to[i] = lanes[i];
}
HEADWAY_INLINE void store_part(uint8_t* to, Float value, int count) { store_part_bytes(to, value, count); }
HEADWAY_INLINE void store_part(int8_t* to, Float value, int count) { store_part_bytes(to, value, count); }

HEADWAY_INLINE float load_one(const float* from) { return *from; }
HEADWAY_INLINE float load_one(const Half* from) { return load_part(from, 1, 0.0f)[0]; }

// Transposes a square by exchanging blocks of increasing size.
template <int kStep, int... kLane>
HEADWAY_INLINE void exchange(Float& a, Float& b, Lanes<kLane...>) {
  const Float first = a, second = b;
  a = __builtin_shufflevector(first, second, ((kLane & kStep) ? kLanes + kLane - kStep : kLane)...);
  b = __builtin_shufflevector(first, second, ((kLane & kStep) ? kLanes + kLane : kLane + kStep)...);
}
template <int kStep = 1>
HEADWAY_INLINE void transpose(Float (&rows)[kLanes]) {
  if constexpr (kStep < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      if ((i & kStep) == 0) exchange<kStep>(rows[i], rows[i + kStep], AllLanes{});
    transpose<kStep * 2>(rows);
  }
}

// Rounds to integers, halves to even; exact up to 2^22.
HEADWAY_INLINE Float nearest(Float value) { return (value + set(kRound)) - set(kRound); }

// Reduces across lanes in a fixed order.
template <int kStep, int... kLane>
HEADWAY_INLINE Float partner(Float value, Lanes<kLane...>) {
  return __builtin_shufflevector(value, value, (kLane ^ kStep)...);
}
template <int kStep = kLanes / 2>
HEADWAY_INLINE float sum_of(Float value) {
  if constexpr (kStep == 0) return value[0];
  else return sum_of<kStep / 2>(value + partner<kStep>(value, AllLanes{}));
}
template <int kStep = kLanes / 2>
HEADWAY_INLINE float largest_of(Float value) {  // NaN must not occur
  if constexpr (kStep == 0) return value[0];
  else return largest_of<kStep / 2>(larger(value, partner<kStep>(value, AllLanes{})));
}

// Returns 2^n for integers n in [-127, 127]; 0 for -127.
HEADWAY_INLINE Float power_of_two(Int n) { return as_float((n + 127) << 23); }

constexpr float kLog2E = 1.44269504f;

// Returns 2^x within 2 ulp for -126 <= x <= 127, 0 from -127 down (denormals would be many times slower); NaN for NaN.
//
// All exponentials use this one: log2(e) becomes part of a scale that exists anyway, and x - round(x) is exact without
// splitting ln 2. A polynomial of degree 6 (minimax, relative error 1.6e-8) gives the rest. Several vectors do each step
// together: one after the other, dependent steps would fill the processor's queue.
template <int kCount>
HEADWAY_INLINE void exp2(Float (&x)[kCount]) {
  constexpr float kCoefficients[] = {0x1.5f3e52p-10f, 0x1.3b2d4cp-7f, 0x1.c6aee8p-5f, 0x1.ebfbdcp-3f, 0x1.62e43p-1f, 1.0f};
  Float n[kCount], r[kCount], p[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
#if defined(__AVX512F__)
    n[i] = _mm512_roundscale_ps(x[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    r[i] = x[i] - n[i];
#else
    x[i] = larger(set(-127.0f), x[i]);
    n[i] = x[i] + set(kRound);  // n in the last bits
    r[i] = x[i] - (n[i] - set(kRound));
#endif
    p[i] = set(0x1.41fbbcp-13f);
  }
#pragma GCC unroll 8
  for (const float coefficient : kCoefficients)
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) p[i] = p[i] * r[i] + set(coefficient);
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
#if defined(__AVX512F__)
    x[i] = _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x[i], set(-126.0f), _CMP_NLT_UQ), p[i], n[i]);
#else
    x[i] = p[i] * power_of_two(as_int(n[i]) - kRoundBits);
#endif
  }
}
HEADWAY_INLINE Float exp2(Float x) {
  Float one[] = {x};
  exp2(one);
  return one[0];
}

}  // namespace
}  // namespace headway::HEADWAY_ISA
