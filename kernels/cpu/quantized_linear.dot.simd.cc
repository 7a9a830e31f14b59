#include "quantized_linear.h"

#include <utility>

#include "simd.h"

namespace headway::HEADWAY_ISA {
namespace {

// a * b + c rounded once, so that instruction sets with and without such an instruction agree.
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

HEADWAY_INLINE Float to_float(Int value) { return __builtin_convertvector(value, Float); }

HEADWAY_INLINE Int rounded(Float value) {  // halves to even
#if defined(__AVX512F__)
  return (Int)_mm512_cvtps_epi32(value);
#elif defined(__AVX2__)
  return (Int)_mm256_cvtps_epi32(value);
#elif defined(__x86_64__)
  return (Int)_mm_cvtps_epi32(value);
#elif defined(__ARM_NEON)
  return (Int)vcvtnq_s32_f32((float32x4_t)value);
#endif
}

typedef Int LooseInt __attribute__((aligned(4), may_alias));
HEADWAY_INLINE Int load_ints(const void* from) { return *static_cast<const LooseInt*>(from); }

HEADWAY_INLINE Int broadcast(const char* word) {
  int32_t value;
  __builtin_memcpy(&value, word, 4);
  return value - Int{};
}

// A word of a row holds a group of inputs; a vector of weights as many for each of its columns; `add_products` adds, in every
// column, the products of the group. `pack` rounds 4 vectors of quantised numbers into a row, added `zero` and at most `kMost`.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)

constexpr int kGroup = 4, kShift = 0;
using Value = uint8_t;

HEADWAY_INLINE Int load_weights(const int8_t* from) { return load_ints(from); }
#if defined(__AVX512VNNI__)
HEADWAY_INLINE Int add_products(Int sum, Int word, Int weights) {
  return (Int)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)word, (__m512i)weights);
}
HEADWAY_INLINE void pack(char* to, const Int (&values)[4], int zero) {
  const __m512i added = _mm512_set1_epi16(static_cast<short>(zero));
  const __m512i first = _mm512_add_epi16(_mm512_packs_epi32((__m512i)values[0], (__m512i)values[1]), added);
  const __m512i second = _mm512_add_epi16(_mm512_packs_epi32((__m512i)values[2], (__m512i)values[3]), added);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(to, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, second)));
}
#else
HEADWAY_INLINE Int add_products(Int sum, Int word, Int weights) {
  return (Int)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)word, (__m256i)weights);
}
HEADWAY_INLINE void pack(char* to, const Int (&values)[4], int zero) {
  const __m256i added = _mm256_set1_epi16(static_cast<short>(zero));
  const __m256i first = _mm256_add_epi16(_mm256_packs_epi32((__m256i)values[0], (__m256i)values[1]), added);
  const __m256i second = _mm256_add_epi16(_mm256_packs_epi32((__m256i)values[2], (__m256i)values[3]), added);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), order));
}
#endif

#elif defined(__ARM_FEATURE_DOTPROD)

constexpr int kGroup = 4, kShift = 128;
using Value = int8_t;

HEADWAY_INLINE Int load_weights(const int8_t* from) { return load_ints(from); }
HEADWAY_INLINE Int add_products(Int sum, Int word, Int weights) {
  return (Int)vdotq_s32((int32x4_t)sum, vreinterpretq_s8_s32((int32x4_t)word), vreinterpretq_s8_s32((int32x4_t)weights));
}
HEADWAY_INLINE void pack(char* to, const Int (&values)[4], int zero) {
  const int16x8_t added = vdupq_n_s16(static_cast<int16_t>(zero));
  int16x8_t half[2];
  for (int i = 0; i < 2; ++i)
    half[i] = vaddq_s16(vcombine_s16(vqmovn_s32((int32x4_t)values[2 * i]), vqmovn_s32((int32x4_t)values[2 * i + 1])), added);
  vst1q_s8(reinterpret_cast<int8_t*>(to), vcombine_s8(vqmovn_s16(half[0]), vqmovn_s16(half[1])));
}

#elif defined(__AVX2__)  // pairs of products in 16 bits, see `Panel`

#define HEADWAY_PAIRS
constexpr int kGroup = 4, kShift = 128;
using Value = int8_t[kPlanes];

HEADWAY_INLINE Int load_weights(const int8_t* from) { return load_ints(from); }

#if defined(__AVX512F__)
HEADWAY_INLINE Int products(Int numbers, Int weights) { return (Int)_mm512_maddubs_epi16((__m512i)numbers, (__m512i)weights); }
HEADWAY_INLINE Int with_signs(Int weights, Int numbers) {
  return (Int)_mm512_mask_sub_epi8((__m512i)weights, _mm512_movepi8_mask((__m512i)numbers), __m512i{}, (__m512i)weights);
}
HEADWAY_INLINE Int add_shorts(Int a, Int b) { return (Int)_mm512_add_epi16((__m512i)a, (__m512i)b); }
HEADWAY_INLINE Int widened(Int shorts) { return (Int)_mm512_madd_epi16((__m512i)shorts, _mm512_set1_epi16(1)); }
HEADWAY_INLINE void pack(char* to, const Int (&values)[4], int zero) {
  const __m512i added = _mm512_set1_epi16(static_cast<short>(zero));
  const __m512i first = _mm512_add_epi16(_mm512_packs_epi32((__m512i)values[0], (__m512i)values[1]), added);
  const __m512i second = _mm512_add_epi16(_mm512_packs_epi32((__m512i)values[2], (__m512i)values[3]), added);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(first, second));
  _mm512_storeu_si512(to, bytes);
  _mm512_storeu_si512(to + 64, _mm512_abs_epi8(bytes));
  _mm512_storeu_si512(to + 128, _mm512_xor_si512(bytes, _mm512_set1_epi8(INT8_MIN)));
}
#else
HEADWAY_INLINE Int products(Int numbers, Int weights) { return (Int)_mm256_maddubs_epi16((__m256i)numbers, (__m256i)weights); }
HEADWAY_INLINE Int with_signs(Int weights, Int numbers) { return (Int)_mm256_sign_epi8((__m256i)weights, (__m256i)numbers); }
HEADWAY_INLINE Int add_shorts(Int a, Int b) { return (Int)_mm256_add_epi16((__m256i)a, (__m256i)b); }
HEADWAY_INLINE Int widened(Int shorts) { return (Int)_mm256_madd_epi16((__m256i)shorts, _mm256_set1_epi16(1)); }
HEADWAY_INLINE void pack(char* to, const Int (&values)[4], int zero) {
  const __m256i added = _mm256_set1_epi16(static_cast<short>(zero));
  const __m256i first = _mm256_add_epi16(_mm256_packs_epi32((__m256i)values[0], (__m256i)values[1]), added);
  const __m256i second = _mm256_add_epi16(_mm256_packs_epi32((__m256i)values[2], (__m256i)values[3]), added);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second), order);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), _mm256_abs_epi8(bytes));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 64), _mm256_xor_si256(bytes, _mm256_set1_epi8(INT8_MIN)));
}
#endif

#else  // words of two int16

constexpr int kGroup = 2, kShift = 0;
using Value = int16_t;

#if defined(__x86_64__)
HEADWAY_INLINE Int load_weights(const int8_t* from) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return (Int)_mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
}
HEADWAY_INLINE Int add_products(Int sum, Int word, Int weights) {
  return sum + (Int)_mm_madd_epi16((__m128i)word, (__m128i)weights);
}
HEADWAY_INLINE void pack_two(char* to, Int a, Int b, int zero) {
  const __m128i both = _mm_add_epi16(_mm_packs_epi32((__m128i)a, (__m128i)b), _mm_set1_epi16(static_cast<short>(zero)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_min_epi16(both, _mm_set1_epi16(255)));
}
#elif defined(__ARM_NEON)
// The first inputs of all columns, then the second ones: a product with one number of a row is then added in one instruction.
HEADWAY_INLINE Int load_weights(const int8_t* from) {
  const int8x8_t order = vcreate_s8(0x0705030106040200);
  return (Int)vreinterpretq_s32_s16(vmovl_s8(vtbl1_s8(vld1_s8(from), order)));
}
HEADWAY_INLINE Int add_products(Int sum, Int word, Int weights) {
  const int16x8_t a = vreinterpretq_s16_s32((int32x4_t)word), b = vreinterpretq_s16_s32((int32x4_t)weights);
  return (Int)vmlal_high_laneq_s16(vmlal_laneq_s16((int32x4_t)sum, vget_low_s16(b), a, 0), b, a, 1);
}
HEADWAY_INLINE void pack_two(char* to, Int a, Int b, int zero) {
  const int16x8_t both = vcombine_s16(vqmovn_s32((int32x4_t)a), vqmovn_s32((int32x4_t)b));
  vst1q_s16(reinterpret_cast<int16_t*>(to), vminq_s16(vaddq_s16(both, vdupq_n_s16(static_cast<int16_t>(zero))), vdupq_n_s16(255)));
}
#endif
HEADWAY_INLINE void pack(char* to, const Int (&values)[4], int zero) {
  pack_two(to, values[0], values[1], zero);
  pack_two(to + 2 * kLanes * sizeof(Value), values[2], values[3], zero);
}

#endif

constexpr int kStep = 4 * kLanes;  // numbers quantised at once

// Vectors of columns in a panel and rows in a tile: their sums, a panel's weights and a word of a row fill the registers.
#if defined(__AVX512F__)
constexpr int kPanel = 3, kTile = 8;
#elif defined(HEADWAY_PAIRS)
constexpr int kPanel = 2, kTile = 4;
#elif defined(__x86_64__)
constexpr int kPanel = 2, kTile = 6;
#else
constexpr int kPanel = 3, kTile = 8;
#endif

HEADWAY_INLINE Float load_upto(const float* from, int64_t count) {
  return count >= kLanes ? load(from) : count <= 0 ? Float{} : load_part(from, static_cast<int>(count), 0.0f);
}

using EveryLane = std::make_integer_sequence<int, kLanes>;

// The largest lane, by folding halves.
template <int kHalf = kLanes / 2, int... kLane>
HEADWAY_INLINE float largest_lane(Float value, std::integer_sequence<int, kLane...> lanes) {
  if constexpr (kHalf == 0) return value[0];
  else return largest_lane<kHalf / 2>(larger(value, __builtin_shufflevector(value, value, (kLane ^ kHalf)...)), lanes);
}

HEADWAY_INLINE bool has_nan(Float value) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_cmp_ps(value, value, _CMP_UNORD_Q)) != 0;
#else
  return sum_of(value - value) != 0.0f;
#endif
}

template <bool kFactors>
void quantize_rows(const float* x, const float* factors, int64_t count, int64_t inputs, const QuantizedRows& rows) {
  const int64_t whole = inputs / kStep * kStep;
  const auto at = [&](int64_t k) { return kFactors ? load(x + k) * load(factors + k) : load(x + k); };
  const auto end = [&](int64_t k) {
    return kFactors ? load_upto(x + k, inputs - k) * load_upto(factors + k, inputs - k) : load_upto(x + k, inputs - k);
  };
  for (int64_t r = 0; r < count; ++r, x += inputs) {
    Float least[4] = {}, most[4] = {}, bad[4] = {};  // bad: 0, or NaN once something was not finite
    const auto see = [&](int i, Float value) {
      least[i] = smaller(value, least[i]);
      most[i] = larger(value, most[i]);
      bad[i] += value * Float{};
    };
    for (int64_t k = 0; k < whole; k += kStep)
      for (int i = 0; i < 4; ++i) see(i, at(k + i * kLanes));
    for (int64_t k = whole; k < inputs; k += kLanes) see(0, end(k));
    const float low = -largest_lane(-smaller(smaller(least[0], least[1]), smaller(least[2], least[3])), EveryLane{});
    const float high = largest_lane(larger(larger(most[0], most[1]), larger(most[2], most[3])), EveryLane{});
    const bool finite = !has_nan((bad[0] + bad[1]) + (bad[2] + bad[3]));
    const double range = static_cast<double>(high) - low;
    const bool flat = !(range >= 0x1p-100) || !finite;  // what is smaller counts as zeros: its steps would not be normal numbers
    const float inverse = flat ? 0.0f : static_cast<float>(255.0 / range);
    const float lowest = finite ? low * inverse : 0.0f;
    const int zero = -rounded(set(lowest))[0];
    rows.scale[r] = !finite ? __builtin_nanf("") : flat ? 0.0f : static_cast<float>(range / 255.0);
    rows.zero[r] = zero - kShift;

    char* to = rows.values + r * rows.pitch;
    if (!finite) {  // any numbers do
      __builtin_memset(to, 0, static_cast<size_t>(rows.pitch));
      continue;
    }
    const Float factor = set(inverse);
    for (int64_t k = 0; k < whole; k += kStep, to += kStep * sizeof(Value)) {
      Int values[4];
      for (int i = 0; i < 4; ++i) values[i] = rounded(at(k + i * kLanes) * factor);
      pack(to, values, zero - kShift);
    }
    if (whole < inputs) {
      Int values[4];
      for (int i = 0; i < 4; ++i) values[i] = rounded(end(whole + i * kLanes) * factor);
      pack(to, values, zero - kShift);
    }
  }
}

void quantize(const float* x, const float* factors, int64_t count, int64_t inputs, const QuantizedRows& rows) {
  if (factors) quantize_rows<true>(x, factors, count, inputs, rows);
  else quantize_rows<false>(x, factors, count, inputs, rows);
}

// Few sums would wait for each other: each is kept in several parts. Whole numbers add up the same in any order.
constexpr int parts_of(int sums) {
#if defined(HEADWAY_PAIRS)
  return static_cast<void>(sums), 1;  // the products themselves take longer
#else
  return 4 * sums <= kPanel * kTile ? 4 : 2 * sums <= kPanel * kTile ? 2 : 1;
#endif
}

#if defined(HEADWAY_PAIRS)

template <int kParts, int kRows, int kVectors>
HEADWAY_INLINE void add_up(const LinearBlock& block, int64_t row, int64_t number, Int (&sums)[kParts][kRows][kVectors]) {
  constexpr int kVectorBytes = kLanes * kGroup;
  const Panel& panel = block.weights->panels[number];
  const int64_t pitch = block.rows.pitch;
  const char* q = block.rows.values + row * pitch;
  const int8_t* w = panel.values;
  const int32_t* words = panel.words;
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v)
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sums[0][r][v] = load_ints(block.weights->start + number * kPanel * kLanes + v * kLanes);

  const auto plain = [&](const char* at, int r, const int8_t* from) {
    return products(broadcast(at + r * pitch + 2 * kStep), load_weights(from));
  };
  const auto moved = [&](const char* at, int r, const int8_t* from) {
    return products(broadcast(at + r * pitch + kStep), with_signs(load_weights(from), broadcast(at + r * pitch)));
  };
  const auto add_pairs = [&](int64_t count, const auto& products) {
    for (int64_t pair = 0; pair < count; ++pair, words += 2, w += 2 * kVectors * kVectorBytes) {
      const char *a = q + words[0], *b = q + words[1];
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          const int8_t* from = w + v * kVectorBytes;
          sums[0][r][v] += widened(add_shorts(products(a, r, from), products(b, r, from + kVectors * kVectorBytes)));
        }
    }
  };
  add_pairs(panel.plain_pairs, plain);
  add_pairs(panel.moved_pairs, moved);
  for (int64_t single = 0; single < panel.singles; ++single, ++words, w += kVectors * kVectorBytes) {
    const char* a = q + words[0];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[0][r][v] += widened(moved(a, r, w + v * kVectorBytes));
  }
}

#else

template <int kParts, int kRows, int kVectors>
HEADWAY_INLINE void add_up(const LinearBlock& block, int64_t row, int64_t panel, Int (&sums)[kParts][kRows][kVectors]) {
  const PackedWeights& weights = *block.weights;
  const int64_t groups = weights.depth / kGroup, pitch = block.rows.pitch;
  constexpr int kVectorBytes = kLanes * kGroup;
  const int8_t* w = weights.values + panel * kPanel * kLanes * weights.depth;
  const char* q = block.rows.values + row * pitch;

  for (int64_t group = 0; group < groups; group += kParts) {
#pragma GCC unroll 4
    for (int part = 0; part < kParts; ++part) {
      Int column[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) column[v] = load_weights(w + (part * kVectors + v) * kVectorBytes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const Int word = broadcast(q + r * pitch + part * 4);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[part][r][v] = add_products(sums[part][r][v], word, column[v]);
      }
    }
    w += kParts * kVectors * kVectorBytes;
    q += kParts * 4;
  }
}

#endif

// kRows rows by kVectors vectors of columns of panel `panel`.
template <int kRows, int kVectors>
void tile(const LinearBlock& block, int64_t row, int64_t panel) {
  constexpr int kParts = parts_of(kRows * kVectors);
  const PackedWeights& weights = *block.weights;
  Int sums[kParts][kRows][kVectors] = {};
  add_up(block, row, panel, sums);

  const int64_t first = panel * kPanel * kLanes;
  const float* row_scale = block.rows.scale + row;
  const int32_t* row_zero = block.rows.zero + row;
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const int64_t column = first + v * kLanes, rest = weights.outputs - column;
    const Float scale = load(weights.scale + column), bias = load(weights.bias + column);
    const Int column_sum = load_ints(weights.sums + column);
    Float values[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      Int sum = sums[0][r][v] - (row_zero[r] - Int{}) * column_sum;
#pragma GCC unroll 4
      for (int part = 1; part < kParts; ++part) sum += sums[part][r][v];
      values[r] = fused(to_float(sum), set(row_scale[r]) * scale, bias);
    }
    float* y = block.y + row * weights.outputs + column;
    if (rest >= kLanes) {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) store(y + r * weights.outputs, values[r]);
    } else {
      for (int r = 0; r < kRows; ++r) store_part(y + r * weights.outputs, values[r], static_cast<int>(rest));
    }
  }
}

using Tile = void (*)(const LinearBlock&, int64_t, int64_t);
template <int kVectors, int... kRows>
constexpr Tile tile_of(int rows, std::integer_sequence<int, kRows...>) {
  constexpr Tile kTiles[] = {tile<kRows + 1, kVectors>...};
  return kTiles[rows - 1];
}
template <int kVectors>
Tile tile_of(int64_t rows) {
  return tile_of<kVectors>(static_cast<int>(rows), std::make_integer_sequence<int, kTile>{});
}

// Phi(a) - 1/2 for a >= 0, Phi the normal distribution (or its likeness by tanh): a polynomial in r for each of eight stretches
// round 0.7 n, r = a / 0.7 - n between -1/2 and 1/2; 1/2 from 5.25 on. Interpolated in Chebyshev nodes, error below 2.2e-7.
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

HEADWAY_INLINE Float absolute(Float x) { return as_float(as_int(x) & 0x7fffffff); }

HEADWAY_INLINE Float gelu(Float x, const Curve& curve) {
  const Float size = absolute(x);
  const Float inside = smaller(size, set(0x1.4ffffep2f));
  const Float shifted = fused(inside, set(1 / 0.7f), set(12582912.0f));  // its last bits are the whole number
  const Float r = fused(inside, set(1 / 0.7f), set(12582912.0f) - shifted);
  const Int index = as_int(shifted);
  Float half = looked_up(curve.factors[5], index);
#pragma GCC unroll 8
  for (int i = 4; i >= 0; --i) half = fused(half, r, looked_up(curve.factors[i], index));
  return fused(size, half, x * set(0.5f));
}

// (1 - e) / (1 + e) with e = exp(-2 |x|) = 2^n (1 + p); 1 - e loses nothing where x is small.
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
HEADWAY_INLINE void each(float* y, int64_t count, const Function& function) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, function(load(y + i), i));
  if (i < count) store_part(y + i, function(load_part(y + i, static_cast<int>(count - i), 0.0f), i), static_cast<int>(count - i));
}

void activate(float* y, int64_t count, Activation activation) {
  switch (activation) {
    case Activation::kNone: return;
    case Activation::kGelu: return each(y, count, [](Float x, int64_t) { return gelu(x, kGelu); });
    case Activation::kGeluTanh: return each(y, count, [](Float x, int64_t) { return gelu(x, kGeluTanh); });
    case Activation::kRelu: return each(y, count, [](Float x, int64_t) { return x < Float{} ? Float{} : x; });
    case Activation::kTanh: return each(y, count, [](Float x, int64_t) { return tanh(x); });
  }
}

void multiply(const LinearBlock& block) {
  const PackedWeights& weights = *block.weights;
  for (int64_t panel = block.first_panel; panel < block.end_panel; ++panel) {
    const int64_t first = panel * kPanel * kLanes;
    const int64_t left = weights.outputs - first, columns = left < kPanel * kLanes ? left : kPanel * kLanes;
    const int64_t vectors = (columns + kLanes - 1) / kLanes;
    for (int64_t row = 0; row < block.count; row += kTile) {
      const int64_t rows = block.count - row < kTile ? block.count - row : kTile;
      const Tile made = vectors == 1 ? tile_of<1>(rows) : vectors == 2 ? tile_of<2>(rows) : tile_of<kPanel>(rows);
      made(block, row, panel);
      for (int64_t r = row; r < row + rows; ++r) {  // still in the nearest cache
        float* y = block.y + r * weights.outputs + first;
        activate(y, columns, block.activation);
        if (block.residual != nullptr) {
          const float* added = block.residual + r * weights.outputs + first;
          each(y, columns, [&](Float x, int64_t i) { return x + load_upto(added + i, columns - i); });
        }
      }
    }
  }
}

}  // namespace

#if defined(HEADWAY_PAIRS)
constexpr int kTogether = kStep;
#else
constexpr int kTogether = 0;
#endif
const LinearTable linear_table = {kLanes, kPanel * kLanes, kGroup, sizeof(Value), kTogether, quantize, multiply, activate};

}  // namespace headway::HEADWAY_ISA
