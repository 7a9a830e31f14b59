// Activations of vectors. Only `.simd.cc` files include this.
#pragma once

#include "activation.h"
#include "simd.h"

namespace headway::HEADWAY_ISA {
namespace {

// Phi(a) - 1/2 for a >= 0, with Phi the normal distribution (or its tanh approximation): one polynomial in r per interval of eight,
// around 0.7 n, with r = a / 0.7 - n between -1/2 and 1/2; 1/2 from 5.25 on. Interpolated in Chebyshev nodes, error below 2.2e-7.
struct Curve {
  float factors[6][8];  // of r^0 to r^5
};
constexpr Curve kGelu = {{
    {0x0p0f, 0x1.083aa2p-2f, 0x1.ad4e22p-2f, 0x1.edb4f8p-2f, 0x1.fd6230p-2f, 0x1.ffc304p-2f, 0x1.fffc80p-2f, 0x1.ffffe0p-2f},
    {0x1.1df630p-2f, 0x1.bfa5b6p-3f, 0x1.ad4c8ap-4f, 0x1.f8704ap-6f, 0x1.6b1f16p-8f, 0x1.404706p-11f, 0x1.5a232ap-15f, 0x1.ca6908p-20f},
    {0x1.ec5476p-19f, -0x1.b69708p-5f, -0x1.a4b81cp-5f, -0x1.72d878p-6f, -0x1.63e110p-8f, -0x1.87f360p-11f, -0x1.faf976p-15f, -0x1.859de0p-19f},
    {-0x1.762384p-6f, -0x1.2a57e4p-7f, 0x1.0d27fap-7f, 0x1.18fbcap-7f, 0x1.95c696p-9f, 0x1.2634b8p-11f, 0x1.d5a39ap-15f, 0x1.acb8aep-19f},
    {0x1.a86fbep-14f, 0x1.5ec0f0p-8f, 0x1.1f052ep-9f, -0x1.475c50p-10f, -0x1.188caap-10f, -0x1.30aa22p-12f, -0x1.437032p-15f, -0x1.74bb46p-19f},
    {0x1.93df46p-10f, 0x1.23651ep-13f, -0x1.07f658p-10f, -0x1.0a586ep-12f, 0x1.89005cp-13f, 0x1.9af926p-14f, 0x1.2bdfbap-16f, 0x1.ad228ep-20f},
}};
constexpr Curve kGeluTanh = {{
    {0x0p0f, 0x1.0825ecp-2f, 0x1.ad2294p-2f, 0x1.edcbf8p-2f, 0x1.fd8dc4p-2f, 0x1.ffd1d8p-2f, 0x1.fffe5ep-2f, 0x1.fffffap-2f},
    {0x1.1df62ep-2f, 0x1.bf4876p-3f, 0x1.adc33cp-4f, 0x1.fc99a4p-6f, 0x1.65f21ap-8f, 0x1.107e7cp-11f, 0x1.880c3ap-16f, 0x1.cc6864p-22f},
    {0x1.01e89ep-18f, -0x1.b6f73ap-5f, -0x1.a2b290p-5f, -0x1.75189ep-6f, -0x1.6a5f8ep-8f, -0x1.6fe40ep-11f, -0x1.577d64p-15f, -0x1.f942f8p-21f},
    {-0x1.7802dap-6f, -0x1.264d92p-7f, 0x1.0be330p-7f, 0x1.15a78ep-7f, 0x1.a037a6p-9f, 0x1.29c152p-11f, 0x1.78008ap-15f, 0x1.6b886cp-20f},
    {0x1.bca27cp-14f, 0x1.61f620p-8f, 0x1.13ae5ep-9f, -0x1.38627ap-10f, -0x1.17cf80p-10f, -0x1.41cf50p-12f, -0x1.2f7faap-15f, -0x1.aebef0p-20f},
    {0x1.9c3acap-10f, 0x1.c50978p-14f, -0x1.054c3ap-10f, -0x1.f7286ap-13f, 0x1.64ed06p-13f, 0x1.b18d9ap-14f, 0x1.3a0238p-16f, 0x1.336732p-20f},
}};

HEADWAY_INLINE Float looked_up(const float (&table)[8], Int index) {
#if defined(__AVX512F__)
  return _mm512_permutexvar_ps((__m512i)index, _mm512_castps256_ps512(_mm256_loadu_ps(table)));
#elif defined(__AVX2__)
  return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)index);
#else
  Float found;
  for (int i = 0; i < kLanes; ++i) found[i] = table[index[i] & 7];
  return found;
#endif
}

HEADWAY_INLINE Float gelu(Float x, const Curve& curve) {
  const Float size = absolute(x);
  const Float inside = smaller(size, set(0x1.4ffffep2f));
  const Float shifted = fused(inside, set(1 / 0.7f), set(12582912.0f));  // its last bits are the integer
  const Float r = fused(inside, set(1 / 0.7f), set(12582912.0f) - shifted);
  const Int index = as_int(shifted);
  Float half = looked_up(curve.factors[5], index);
#pragma GCC unroll 8
  for (int i = 4; i >= 0; --i) half = fused(half, r, looked_up(curve.factors[i], index));
  return fused(size, half, x * set(0.5f));
}

// (1 - e) / (1 + e) with e = exp(-2 |x|) = 2^n (1 + p); 1 - e loses no precision where x is small.
HEADWAY_INLINE Float tanh(Float x) {
  const Float size = absolute(x);
  const Float twice = (size < set(10.0f) ? size : set(10.0f)) * set(-2.0f);
  const Float shifted = fused(twice, set(1.44269504f), set(12582912.0f));
  const Float n = shifted - set(12582912.0f);
  const Float r = fused(n, set(-1.42860677e-6f), fused(n, set(-0.693145752f), twice));
  Float p = set(0x1.6ae73p-10f);  // (e^r - 1) / r, as in exp
  p = fused(p, r, set(0x1.12678p-7f));
  p = fused(p, r, set(0x1.555822p-5f));
  p = fused(p, r, set(0x1.55541ap-3f));
  p = fused(p, r, set(0x1.fffffcp-2f));
  p = fused(p, r, set(1.0f)) * r;
  const Float power = as_float((as_int(shifted) - 0x4b400000 + 127) << 23);
  const Float less = fused(power, p, power - set(1.0f));  // e - 1
  const Float value = less / (less + set(2.0f));
  const Float signed_value = as_float((as_int(value) & 0x7fffffff) | (as_int(x) & INT32_MIN));
  return x == x ? signed_value : x;
}

template <class Function>
HEADWAY_INLINE void each(const float* x, float* y, int64_t count, const Function& function) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, function(load(x + i), i));
  if (i < count) store_part(y + i, function(load_part(x + i, static_cast<int>(count - i), 0.0f), i), static_cast<int>(count - i));
}

template <class Function>
HEADWAY_INLINE void activate(const float* x, const float* bias, float* y, int64_t count, const Function& function) {
  if (bias == nullptr) each(x, y, count, [&](Float value, int64_t) { return function(value); });
  else each(x, y, count, [&](Float value, int64_t i) { return function(value + load_upto(bias + i, count - i)); });
}

// Calls `use` with the activation as a function of a vector, so that it is chosen once and not for every vector.
template <class Use>
HEADWAY_INLINE void with_activation(Activation activation, const Use& use) {
  switch (activation) {
    case Activation::kNone: return use([](Float value) { return value; });
    case Activation::kGelu: return use([](Float value) { return gelu(value, kGelu); });
    case Activation::kGeluTanh: return use([](Float value) { return gelu(value, kGeluTanh); });
    case Activation::kRelu: return use([](Float value) { return value < Float{} ? Float{} : value; });
    case Activation::kTanh: return use([](Float value) { return tanh(value); });
  }
}

inline void activate(const float* x, const float* bias, float* y, int64_t count, Activation activation) {
  if (activation == Activation::kNone && x == y && bias == nullptr) return;
  with_activation(activation, [&](const auto& function) { activate(x, bias, y, count, function); });
}

}  // namespace
}  // namespace headway::HEADWAY_ISA
