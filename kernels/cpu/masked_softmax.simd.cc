#include "masked_softmax.h"

#include "simd.h"

namespace headway::HEADWAY_ISA {
namespace {

enum class Bias { kNone, kNumber, kColumns };

// What the rows of a call share, copied so that writes to memory cannot change it.
struct Constants {
  Float scale, out_scale, out_zero;
  int64_t whole;  // columns in full vectors
  int rest;       // and the columns after them
};

// The scores of a row, times log2(e).
template <Bias kBias, class T>
struct Scores {
  const T *x, *bias;
  Float scale, number;

  HEADWAY_INLINE Scores(const Constants& all, const T* x, const T* bias) : x(x), bias(bias), scale(all.scale), number{} {
    if constexpr (kBias == Bias::kNumber) number = set(load_one(bias) * kLog2E);
  }
  HEADWAY_INLINE Float score(Float value, Float added) const {
    if constexpr (kBias == Bias::kNone) return value * scale;
    else if constexpr (kBias == Bias::kNumber) return value * scale + number;
    else return value * scale + added * set(kLog2E);
  }
  HEADWAY_INLINE Float operator()(int64_t i) const {
    return score(load(x + i), kBias == Bias::kColumns ? load(bias + i) : Float{});
  }
  HEADWAY_INLINE Float part(int64_t i, int count) const {  // lanes from `count` on are -inf
    Int column;
    for (int lane = 0; lane < kLanes; ++lane) column[lane] = lane;
    const Float value = score(load_part(x + i, count, 0.0f), kBias == Bias::kColumns ? load_part(bias + i, count, 0.0f) : Float{});
    return column < count ? value : set(-kInfinity);
  }
};

// One step each of three rows. Between steps a row is stored as float32 in full vectors: first its scores, then its exponentials.
template <class Out>
struct Turn {
  float* scored;        // scores are written here
  Float most;           // the largest of them
  float* raised;        // scores that become exponentials here
  Float peak, total;    // what is subtracted first; the sum of the exponentials
  const float* summed;  // exponentials that are multiplied and written to y
  Float factor;
  Out* y;
};

constexpr int64_t kAhead = 1024;  // elements that a large x is prefetched ahead: one page, where the processor's own prefetching stops

// Goes over the vectors and does the steps that are requested.
template <bool kScore, bool kRaise, bool kFinish, bool kStream, class Row, class Out>
HEADWAY_INLINE void take(const Constants& all, const Row& scores, Turn<Out>& turn) {
  const Turn<Out> now = turn;
  Float most[4] = {set(-kInfinity), set(-kInfinity), set(-kInfinity), set(-kInfinity)}, total[4] = {};
  const auto score = [&](int k, int64_t i, Float value) {
    store(now.scored + i, value);
    most[k] = larger(value, most[k]);
  };
  const auto raise = [&](int k, int64_t i) {
    const Float e = exp2(load(now.raised + i) - now.peak);
    store(now.raised + i, e);
    total[k] += e;
  };
  const auto finished = [&](int64_t i) {
    const Float e = load(now.summed + i) * now.factor;
    if constexpr (sizeof(Out) == 1) return nearest(e / all.out_scale) + all.out_zero;
    else return e;
  };
  const auto one = [&](int k, int64_t i) {
    if constexpr (kFinish && kStream) stream(now.y + i, finished(i));
    else if constexpr (kFinish) store(now.y + i, finished(i));
    if constexpr (kRaise) raise(k, i);
    if constexpr (kScore && kStream) __builtin_prefetch(scores.x + i + kAhead);
    if constexpr (kScore) score(k, i, scores(i));
  };
  int64_t i = 0;
  for (; i + 4 * kLanes <= all.whole; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) one(k, i + k * kLanes);
  for (; i < all.whole; i += kLanes) one(0, i);
  if (all.rest) {
    if constexpr (kFinish) store_part(now.y + i, finished(i), all.rest);
    if constexpr (kRaise) raise(1, i);
    if constexpr (kScore) score(1, i, scores.part(i, all.rest));
  }
  if constexpr (kScore) turn.most = larger(larger(most[0], most[1]), larger(most[2], most[3]));
  if constexpr (kRaise) turn.total = (total[0] + total[1]) + (total[2] + total[3]);
}

// The factor of a row's exponentials. A row without keys becomes zeros; a row whose scores exceed float32 stays NaN.
HEADWAY_INLINE float factor_of(float largest, float sum) { return largest == -kInfinity && sum == 0.0f ? 0.0f : 1.0f / sum; }

// Five rows are processed at a time: one alone would mostly wait for its own maximum and sum. In turn r, row r is scored, the
// maximum of r - 1 is found, r - 2 is exponentiated, the sum of r - 3 is found, and r - 4 is finished.
template <Bias kBias, bool kStream, class T, class Out>
void each_row(const SoftmaxRows<T, Out>& rows) {
  const int64_t length = rows.length, count = rows.count;
  const Constants all{set(rows.scale * kLog2E), set(rows.out_scale), set(rows.out_zero), length / kLanes * kLanes,
                      static_cast<int>(length % kLanes)};
  const SoftmaxRows<T, Out> given = rows;
  float* kept[kRowsUnderWay];  // by row, the latest one first
  for (int64_t i = 0; i < kRowsUnderWay; ++i) kept[i] = given.room + i * given.room_pitch;
  Turn<Out> turn{};
  float raised_most = 0.0f, summed_most = 0.0f, factor = 0.0f;
  for (int64_t r = 0; r < count + 4; ++r) {
    const float most = largest_of(turn.most);
    const float next_factor = factor_of(summed_most, sum_of(turn.total));
    turn.scored = kept[0], turn.raised = kept[2], turn.summed = kept[4];
    turn.peak = set(raised_most == -kInfinity ? 0.0f : raised_most);
    turn.factor = set(factor);
    turn.y = given.y + (r - 4) * length;
    const bool scores = r < count, raises = r >= 2 && r < count + 2, finishes = r >= 4;
    const int64_t here = scores ? r : 0;
    const Scores<kBias, T> row(all, given.x + here * length, kBias == Bias::kNone ? nullptr : given.bias[here]);
    if (scores && raises && finishes) {
      take<true, true, true, kStream>(all, row, turn);
    } else {
      if (finishes) take<false, false, true, kStream>(all, row, turn);
      if (raises) take<false, true, false, kStream>(all, row, turn);
      if (scores) take<true, false, false, kStream>(all, row, turn);
    }
    summed_most = raised_most, raised_most = most, factor = next_factor;
    float* const free = kept[4];
    for (int64_t i = 4; i > 0; --i) kept[i] = kept[i - 1];
    kept[0] = free;
  }
}

template <Bias kBias, class T, class Out>
void streamed_or_not(const SoftmaxRows<T, Out>& rows) {
  if constexpr (sizeof(Out) == 4) {
    const bool aligned = (reinterpret_cast<uintptr_t>(rows.y) | static_cast<uintptr_t>(rows.length) * 4) % (kLanes * 4) == 0;
    if (rows.stream && aligned) {
      each_row<kBias, true>(rows);
      streamed();
      return;
    }
  }
  each_row<kBias, false>(rows);
}

template <class T, class Out>
void all_rows(const SoftmaxRows<T, Out>& rows) {
  if (rows.bias == nullptr) streamed_or_not<Bias::kNone>(rows);
  else if (rows.bias_step == 0) streamed_or_not<Bias::kNumber>(rows);
  else streamed_or_not<Bias::kColumns>(rows);
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
