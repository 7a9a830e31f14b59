#include "bfloat16_linear.h"

#include <utility>

#include "activation.simd.h"

#if defined(__AMX_BF16__)
#include "bfloat16_tiles.simd.h"
#endif

namespace headway::HEADWAY_ISA {
namespace {

#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define HEADWAY_ROUNDS
#endif

// Stores a vector as bfloat16, rounded to nearest even.
#if defined(__AVX512BF16__)
HEADWAY_INLINE void store_rounded(char* to, Float value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(value));
}
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
HEADWAY_INLINE void store_rounded(char* to, Float value) {
  vst1_u16(reinterpret_cast<uint16_t*>(to), vreinterpret_u16_bf16(vcvt_bf16_f32((float32x4_t)value)));
}
#else
HEADWAY_INLINE void store_rounded(char*, Float) {}  // rows stay float32
#endif

#if defined(HEADWAY_ROUNDS)
void round_rows(const float* x, int64_t count, int64_t inputs, int64_t depth, char* to, int64_t pitch) {
  for (int64_t r = 0; r < count; ++r, x += inputs, to += pitch) {
    int64_t k = 0;
    for (; k + kLanes <= inputs; k += kLanes) store_rounded(to + 2 * k, load(x + k));
    for (; k < depth; k += kLanes) store_rounded(to + 2 * k, load_upto(x + k, inputs - k));
  }
}
#endif

// Writes act(sum + bias) + residual for a vector of sums.
template <class Function>
HEADWAY_INLINE void finish(const Bfloat16Block& block, Float sum, int64_t row, int64_t column, const Function& function) {
  const Bfloat16Weights& weights = *block.weights;
  const int64_t rest = weights.outputs - column;
  Float value = function(sum + load(weights.bias + column));
  char* to = block.results.data + row * block.results.pitch;
  if (block.results.rounded) {
    if (rest < kLanes) {  // the next layer multiplies what lies behind the last output by zeros, and no infinity may stand there
      alignas(64) float kept[kLanes];
      store(kept, value);
      value = load_upto(kept, rest);
    }
    return store_rounded(to + column * 2, value);
  }
  float* y = reinterpret_cast<float*>(to) + column;
  if (block.residual != nullptr) value += load_upto(block.residual + row * weights.outputs + column, rest);
  if (rest >= kLanes) store(y, value);
  else if (rest > 0) store_part(y, value, static_cast<int>(rest));
}

#if defined(__AMX_BF16__)

// Fetches what `finish` will read and write of two vectors: rows are far apart in memory, so that the processor does not foresee it.
HEADWAY_INLINE void announce(const Bfloat16Block& block, int64_t row, int64_t column) {
  const char* to = block.results.data + row * block.results.pitch + column * (block.results.rounded ? 2 : 4);
  __builtin_prefetch(to, 1);
  if (block.results.rounded) return;
  __builtin_prefetch(to + 64, 1);
  if (block.residual == nullptr) return;
  const float* added = block.residual + row * block.weights->outputs + column;
  __builtin_prefetch(added);
  __builtin_prefetch(added + kLanes);
}

void multiply(const Bfloat16Block& block) {
  with_activation(block.activation, [&](const auto& function) {
    multiply_tiles(
        block, [&](Float sum, int64_t row, int64_t column) { finish(block, sum, row, column, function); },
        [&](int64_t row, int64_t column) { announce(block, row, column); });
  });
}

#else

typedef Int LooseInt __attribute__((aligned(4), may_alias));

// A word of a panel is a pair of inputs of one column; `Pair` is the same pair of a row, in every lane.
#if defined(__AVX512BF16__)
struct Pair {
  __m512bh both;
};
HEADWAY_INLINE Pair pair_of(const char* row, int64_t pair) {
  int32_t word;
  __builtin_memcpy(&word, row + pair * 4, 4);
  return {(__m512bh)_mm512_set1_epi32(word)};
}
HEADWAY_INLINE Float add_products(Float sum, const Pair& pair, Int words) {
  return _mm512_dpbf16_ps(sum, pair.both, (__m512bh)words);
}
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
struct Pair {
  bfloat16x8_t both;
};
HEADWAY_INLINE Pair pair_of(const char* row, int64_t pair) {
  int32_t word;
  __builtin_memcpy(&word, row + pair * 4, 4);
  return {vreinterpretq_bf16_s32(vdupq_n_s32(word))};
}
HEADWAY_INLINE Float add_products(Float sum, const Pair& pair, Int words) {
  return (Float)vbfdotq_f32((float32x4_t)sum, pair.both, vreinterpretq_bf16_s32((int32x4_t)words));
}
#else
struct Pair {
  Float first, second;
};
HEADWAY_INLINE Pair pair_of(const char* row, int64_t pair) {
  float numbers[2];
  __builtin_memcpy(numbers, row + pair * 8, 8);
  return {set(numbers[0]), set(numbers[1])};
}
HEADWAY_INLINE Float add_products(Float sum, const Pair& pair, Int words) {
  sum = pair.first * as_float(words << 16) + sum;
  return pair.second * as_float(words & INT32_C(-65536)) + sum;
}
#endif

// Vectors of columns per panel and rows per tile: the sums, the weights of a panel and a pair of a row fill the registers.
#if defined(__AVX512F__)
constexpr int kPanel = 3, kTile = 8;
#elif defined(__x86_64__)
constexpr int kPanel = 2, kTile = 4;
#else
constexpr int kPanel = 2, kTile = 8;
#endif
constexpr int kAhead = 2048;  // bytes of weights fetched ahead

// Computes kRows rows by kVectors vectors of columns. Every sum is one chain, in the same order for every kRows.
template <int kRows, int kVectors>
void tile(const Bfloat16Block& block, int64_t row, int64_t panel) {
  constexpr int kWidth = kVectors * kLanes;
  const Bfloat16Weights& weights = *block.weights;
  const int64_t first = panel * kPanel * kLanes, pitch = block.rows.pitch;
  const char* w = reinterpret_cast<const char*>(weights.values + first * weights.depth);
  const char* x = block.rows.data + row * pitch;
  Float sums[kRows][kVectors] = {};
  const auto add = [&](int64_t at, const auto& pair_at) {
    Int words[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) words[v] = *reinterpret_cast<const LooseInt*>(w + (at * kVectors + v) * kLanes * 4);
    __builtin_prefetch(w + at * kVectors * kLanes * 4 + kAhead);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Pair pair = pair_at(x + r * pitch, at);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] = add_products(sums[r][v], pair, words[v]);
    }
  };
#if defined(HEADWAY_ROUNDS)
  const int64_t whole = weights.depth / 2;
#else
  const int64_t whole = weights.inputs / 2;
#endif
  for (int64_t at = 0; at < whole; ++at) add(at, [](const char* from, int64_t i) { return pair_of(from, i); });
#if !defined(HEADWAY_ROUNDS)
  if (weights.inputs % 2)  // what follows the last input in memory belongs to another row
    add(whole, [](const char* from, int64_t at) {
      float number;
      __builtin_memcpy(&number, from + at * 8, 4);
      return Pair{set(number), Float{}};
    });
#endif
  alignas(64) float stored[kRows * kWidth];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(stored + r * kWidth + v * kLanes, sums[r][v]);
  with_activation(block.activation, [&](const auto& function) {
    for (int v = 0; v < kVectors; ++v)
      for (int r = 0; r < kRows; ++r) finish(block, load(stored + r * kWidth + v * kLanes), row + r, first + v * kLanes, function);
  });
}

using Tile = void (*)(const Bfloat16Block&, int64_t, int64_t);
template <int kVectors, int... kRows>
constexpr Tile tile_of(int rows, std::integer_sequence<int, kRows...>) {
  constexpr Tile kTiles[] = {tile<kRows + 1, kVectors>...};
  return kTiles[rows - 1];
}
template <int kVectors>
Tile tile_of(int64_t rows) {
  return tile_of<kVectors>(static_cast<int>(rows), std::make_integer_sequence<int, kTile>{});
}

void multiply(const Bfloat16Block& block) {
  for (int64_t panel = block.first_panel; panel < block.end_panel; ++panel) {
    const int64_t left = block.weights->outputs - panel * kPanel * kLanes;
    const int64_t columns = left < kPanel * kLanes ? left : kPanel * kLanes, vectors = (columns + kLanes - 1) / kLanes;
    for (int64_t row = 0; row < block.count; row += kTile) {
      const int64_t rows = block.count - row < kTile ? block.count - row : kTile;
      const Tile made = vectors == 1 ? tile_of<1>(rows) : vectors == 2 ? tile_of<2>(rows) : tile_of<kPanel>(rows);
      made(block, row, panel);
    }
  }
}

#endif

}  // namespace

#if defined(__AMX_BF16__)
const Bfloat16Table bfloat16_linear_table = {kPanelColumns, kPanelColumns, kTileDepth, kMostRows, round_rows, multiply};
#elif defined(HEADWAY_ROUNDS)
const Bfloat16Table bfloat16_linear_table = {kPanel * kLanes, kLanes, 2, 96, round_rows, multiply};
#else
const Bfloat16Table bfloat16_linear_table = {kPanel * kLanes, kLanes, 2, 96, nullptr, multiply};
#endif

}  // namespace headway::HEADWAY_ISA
