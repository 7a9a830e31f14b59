#include "layer_norm.h"

#include "simd.h"

namespace headway::HEADWAY_ISA {
namespace {

constexpr int kAtOnce = 4;  // independent partial sums

// Calls step(k, i) for each full vector, where k is its partial sum, and returns where the rest of the row begins.
template <class Step>
HEADWAY_INLINE int64_t whole(int64_t width, const Step& step) {
  int64_t i = 0;
  for (; i + kAtOnce * kLanes <= width; i += kAtOnce * kLanes)
    for (int k = 0; k < kAtOnce; ++k) step(k, i + k * kLanes);
  for (; i + kLanes <= width; i += kLanes) step(0, i);
  return i;
}

HEADWAY_INLINE float total(const Float (&sums)[kAtOnce]) { return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3])); }

template <bool kSkip, bool kBias>
void normalize(const NormRows& rows) {
  const int64_t width = rows.width;
  const float over = 1.0f / static_cast<float>(width);
  for (int64_t row = 0; row < rows.count; ++row) {
    const float* const x = rows.x + row * width;
    const float* const skip = kSkip ? rows.skip + row * width : nullptr;
    float* const y = rows.y + row * width;
    float* const kept = rows.sum != nullptr ? rows.sum + row * width : y;
    const auto added = [&](Float value, Float bias, Float other) {
      if constexpr (kBias) value += bias;
      if constexpr (kSkip) value += other;
      return value;
    };

    Float sums[kAtOnce] = {};
    int64_t i = whole(width, [&](int k, int64_t at) {
      const Float value = added(load(x + at), kBias ? load(rows.bias + at) : Float{}, kSkip ? load(skip + at) : Float{});
      store(kept + at, value);
      sums[k] += value;
    });
    const int rest = static_cast<int>(width - i);
    if (rest) {
      const Float value = added(load_part(x + i, rest, 0.0f), kBias ? load_part(rows.bias + i, rest, 0.0f) : Float{},
                                kSkip ? load_part(skip + i, rest, 0.0f) : Float{});
      store_part(kept + i, value, rest);
      sums[0] += value;
    }
    const float mean = total(sums) * over;

    Float squares[kAtOnce] = {};
    whole(width, [&](int k, int64_t at) {
      const Float off = load(kept + at) - set(mean);
      squares[k] += off * off;
    });
    if (rest) {
      const Float off = load_part(kept + i, rest, mean) - set(mean);
      squares[0] += off * off;
    }
    const float factor = 1.0f / __builtin_sqrtf(total(squares) * over + rows.epsilon);

    const auto finished = [&](Float value, Float gamma, Float beta) { return (value - set(mean)) * set(factor) * gamma + beta; };
    whole(width, [&](int, int64_t at) {
      store(y + at, finished(load(kept + at), load(rows.gamma + at), rows.beta != nullptr ? load(rows.beta + at) : Float{}));
    });
    if (rest)
      store_part(y + i, finished(load_part(kept + i, rest, 0.0f), load_part(rows.gamma + i, rest, 0.0f),
                                 rows.beta != nullptr ? load_part(rows.beta + i, rest, 0.0f) : Float{}), rest);
  }
}

void any(const NormRows& rows) {
  if (rows.skip != nullptr) rows.bias != nullptr ? normalize<true, true>(rows) : normalize<true, false>(rows);
  else rows.bias != nullptr ? normalize<false, true>(rows) : normalize<false, false>(rows);
}

}  // namespace

const NormTable norm_table = {any};

}  // namespace headway::HEADWAY_ISA
