#include "masked_softmax.h"

#include "simd.h"

namespace headway::HEADWAY_ISA {
namespace {

enum class Bias { kNone, kNumber, kColumns };

// Scores, times log2(e), of up to kLanes columns from `i` on; columns beyond the row are -inf.
//
// Less `peak` where one is given. A score is rounded the same way with and without it: the largest less itself has to be 0.
template <Bias kBias, bool kPart, class T, class Out>
HEADWAY_INLINE Float scores(const SoftmaxRows<T, Out>& rows, const T* x, const T* bias, int64_t i, Float peak) {
  const int rest = kPart ? static_cast<int>(rows.length - i) : kLanes;
  Float value = kPart ? load_part(x + i, rest, 0.0f) : load(x + i);
  value = unfused(value * set(rows.scale * kLog2E));
  if constexpr (kBias == Bias::kNumber) value += set(load_one(bias) * kLog2E);
  if constexpr (kBias == Bias::kColumns) value += (kPart ? load_part(bias + i, rest, 0.0f) : load(bias + i)) * set(kLog2E);
  value -= peak;
  if constexpr (kPart) {
    Int column;
    for (int lane = 0; lane < kLanes; ++lane) column[lane] = lane;
    value = column < rest ? value : set(-kInfinity);
  }
  return value;
}

template <Bias kBias, class T, class Out>
HEADWAY_INLINE void row(const SoftmaxRows<T, Out>& rows, const T* x, const T* bias, Out* y) {
  constexpr bool kKeeps = sizeof(Out) == 4;  // exponentials wait in y; anything shorter would round them twice: computed again
  const int64_t length = rows.length, whole = length / kLanes * kLanes;
  const Float zero = {};
  Float most[4] = {set(-kInfinity), set(-kInfinity), set(-kInfinity), set(-kInfinity)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= whole; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) most[k] = larger(scores<kBias, false>(rows, x, bias, i + k * kLanes, zero), most[k]);
  for (; i < whole; i += kLanes) most[0] = larger(scores<kBias, false>(rows, x, bias, i, zero), most[0]);
  if (whole < length) most[1] = larger(scores<kBias, true>(rows, x, bias, whole, zero), most[1]);
  const float found = largest_of(larger(larger(most[0], most[1]), larger(most[2], most[3])));
  const Float peak = set(found == -kInfinity ? 0.0f : found);

  Float total[4] = {};
  for (i = 0; i + 4 * kLanes <= whole; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) {
      const Float e = exp2(scores<kBias, false>(rows, x, bias, i + k * kLanes, peak));
      total[k] += e;
      if constexpr (kKeeps) store(y + i + k * kLanes, e);
    }
  for (; i < whole; i += kLanes) {
    const Float e = exp2(scores<kBias, false>(rows, x, bias, i, peak));
    total[0] += e;
    if constexpr (kKeeps) store(y + i, e);
  }
  Float last = {};
  if (whole < length) {
    last = exp2(scores<kBias, true>(rows, x, bias, whole, peak));
    total[1] += last;
  }
  const float sum = sum_of((total[0] + total[1]) + (total[2] + total[3]));
  // Of a row without a key nothing is left; a row of scores beyond float32 stays NaN.
  const Float factor = set(found == -kInfinity && sum == 0.0f ? 0.0f : 1.0f / sum);
  auto finished = [&](Float e) {
    if constexpr (sizeof(Out) == 1) return nearest(e * factor / set(rows.out_scale)) + set(rows.out_zero);
    else return e * factor;
  };
  for (i = 0; i < whole; i += kLanes) {
    if constexpr (kKeeps) store(y + i, finished(load(y + i)));
    else store(y + i, finished(exp2(scores<kBias, false>(rows, x, bias, i, peak))));
  }
  if (whole < length) store_part(y + whole, finished(last), static_cast<int>(length - whole));
}

template <class T, class Out>
void all_rows(const SoftmaxRows<T, Out>& rows) {
  for (int64_t r = 0; r < rows.count; ++r) {
    const T* x = rows.x + r * rows.length;
    Out* y = rows.y + r * rows.length;
    if (rows.bias == nullptr) row<Bias::kNone>(rows, x, static_cast<const T*>(nullptr), y);
    else if (rows.bias_step == 0) row<Bias::kNumber>(rows, x, rows.bias[r], y);
    else row<Bias::kColumns>(rows, x, rows.bias[r], y);
  }
}

template <Float (*kFunction)(Float)>
void each(const float* x, float* y, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, kFunction(load(x + i)));
  if (i < count) store_part(y + i, kFunction(load_part(x + i, static_cast<int>(count - i), 0.0f)), static_cast<int>(count - i));
}

}  // namespace

const SoftmaxTable softmax_table = {all_rows<float, float>, all_rows<Half, Half>, all_rows<float, uint8_t>, all_rows<float, int8_t>, each<exp2>};

}  // namespace headway::HEADWAY_ISA
