#include "quantized_linear.h"

#include <utility>

#include "activation.simd.h"

namespace headway::HEADWAY_ISA {
namespace {

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

// A word of a row holds a group of inputs; a vector of weights holds as many for each of its columns. `add_products` adds the
// products of the group in every column. `pack` rounds 4 vectors into a row and adds `zero`, with `kMost` as the maximum.
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

#elif defined(__AVX2__)  // pairs of products summed in 16 bits, see `Panel`

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

#else  // words hold two int16

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
// First inputs of all columns, then the second ones: products with one element of a row are then added in one instruction.
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

constexpr int kStep = 4 * kLanes;  // elements quantized at once

// Vectors of columns per panel and rows per tile: the sums, the weights of a panel and a word of a row fill the registers.
#if defined(__AVX512F__)
constexpr int kPanel = 3, kTile = 8;
#elif defined(HEADWAY_PAIRS)
constexpr int kPanel = 2, kTile = 4;
#elif defined(__x86_64__)
constexpr int kPanel = 2, kTile = 6;
#else
constexpr int kPanel = 3, kTile = 8;
#endif

using EveryLane = std::make_integer_sequence<int, kLanes>;

// Returns the largest lane, by folding halves.
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
    Float least[4] = {}, most[4] = {}, bad[4] = {};  // bad: 0, or NaN once an element was not finite
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
    const bool flat = !(range >= 0x1p-100) || !finite;  // a smaller range counts as zeros: its scale would not be a normal number
    const float inverse = flat ? 0.0f : static_cast<float>(255.0 / range);
    const float lowest = finite ? low * inverse : 0.0f;
    const int zero = -rounded(set(lowest))[0];
    rows.scale[r] = !finite ? __builtin_nanf("") : flat ? 0.0f : static_cast<float>(range / 255.0);
    rows.zero[r] = zero - kShift;

    char* to = rows.values + r * rows.pitch;
    if (!finite) {  // the content does not matter: the scale is NaN
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

// A few sums would wait for each other, so each has several parts. Sums of integers do not depend on the order.
constexpr int parts_of(int sums) {
#if defined(HEADWAY_PAIRS)
  return static_cast<void>(sums), 1;  // here the products take longer
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

// Computes kRows rows by kVectors vectors of columns of panel `panel`.
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
      for (int64_t r = row; r < row + rows; ++r) {  // still in the L1 cache
        float* y = block.y + r * weights.outputs + first;
        activate(y, nullptr, y, columns, block.activation);
        if (block.residual != nullptr) {
          const float* added = block.residual + r * weights.outputs + first;
          each(y, y, columns, [&](Float x, int64_t i) { return x + load_upto(added + i, columns - i); });
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
const LinearTable linear_table = {kLanes, kPanel * kLanes, kGroup, sizeof(Value), kTogether, quantize, multiply};

}  // namespace headway::HEADWAY_ISA
