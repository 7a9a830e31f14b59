// Lanes are queries. The scores of a block of keys are stored as [key][query], so that the maximum, the sum and the exponentials
// need no reduction across lanes. Keys and values are read in place, one element at a time, and broadcast to all lanes.
//
// Online softmax (Milakov & Gimelshein, arXiv:1805.02867): one block of keys at a time; earlier results are rescaled when a larger
// score occurs. Exponentials have base 2: log2(e) is part of the scale.

#include "attention.h"

#include "simd.h"

namespace headway::HEADWAY_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kKeys = 8, kDims = 8;  // 16 sums hide the latency of a multiplication
#elif defined(__AVX2__)
constexpr int kKeys = 6, kDims = 4;  // 16 registers
#elif defined(__SSE2__)
constexpr int kKeys = 4, kDims = 4;
#else
constexpr int kKeys = 12, kDims = 8;  // 32 registers
#endif
constexpr int kBlock = kLanes == 16 ? 256 : 128;  // keys per block: their scores stay in the L1 cache

// Scores of kRows keys: s[row][query] = sum over head_dim of k * q. `q` is [head_dim][kColumns * kLanes].
template <int kRows, int kColumns>
HEADWAY_INLINE void multiply_keys(const float* k, int64_t pitch, int head_dim, const float* q, float* s, Float* most) {
  constexpr int kWidth = kColumns * kLanes;
  Float sum[kRows][kColumns] = {};
  for (int i = 0; i < head_dim; ++i) {
    Float query[kColumns];
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; ++c) query[c] = load(q + i * kWidth + c * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const Float key = set(k[r * pitch + i]);
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) sum[r][c] += key * query[c];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; ++c) {
      store(s + r * kWidth + c * kLanes, sum[r][c]);
      most[c] = larger(sum[r][c], most[c]);
    }
}

// y[dim][query] = y * shrink + sum over keys of v[key][dim] * p[key][query], for kRows dims.
template <int kRows, int kColumns>
HEADWAY_INLINE void add_values(const float* v, int64_t pitch, int keys, const float* p, float* y, const Float* shrink) {
  constexpr int kWidth = kColumns * kLanes;
  Float sum[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; ++c) sum[r][c] = load(y + r * kWidth + c * kLanes) * shrink[c];
  for (int key = 0; key < keys; ++key, v += pitch) {
    Float weight[kColumns];
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; ++c) weight[c] = load(p + key * kWidth + c * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Float value = set(v[r]);
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) sum[r][c] += value * weight[c];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; ++c) store(y + r * kWidth + c * kLanes, sum[r][c]);
}

// Turns the scores of kRows keys into exponentials and adds them to `total`.
template <int kRows, int kColumns>
HEADWAY_INLINE void raise(float* s, const Float* base, Float* total) {
  Float p[kRows * kColumns];
#pragma GCC unroll 8
  for (int i = 0; i < kRows * kColumns; ++i) p[i] = load(s + i * kLanes) - base[i % kColumns];
  exp2(p);
#pragma GCC unroll 8
  for (int i = 0; i < kRows * kColumns; ++i) {
    store(s + i * kLanes, p[i]);
    total[i % kColumns] += p[i];
  }
}

// Calls multiply_keys or add_values for `rows` rows, rows < kRows.
template <int kRows, int kColumns>
HEADWAY_INLINE void multiply_rest(const float* k, int64_t pitch, int head_dim, int rows, const float* q, float* s, Float* most) {
  if constexpr (kRows > 0) {
    while (rows >= kRows) {
      multiply_keys<kRows, kColumns>(k, pitch, head_dim, q, s, most);
      k += kRows * pitch;
      s += kRows * kColumns * kLanes;
      rows -= kRows;
    }
    multiply_rest<kRows / 2, kColumns>(k, pitch, head_dim, rows, q, s, most);
  }
}
template <int kRows, int kColumns>
HEADWAY_INLINE void add_rest(const float* v, int64_t pitch, int keys, int rows, const float* p, float* y, const Float* shrink) {
  if constexpr (kRows > 0) {
    while (rows >= kRows) {
      add_values<kRows, kColumns>(v, pitch, keys, p, y, shrink);
      v += kRows;
      y += kRows * kColumns * kLanes;
      rows -= kRows;
    }
    add_rest<kRows / 2, kColumns>(v, pitch, keys, rows, p, y, shrink);
  }
}

// Loads a square of elements; rows from `rows` on and columns from `columns` on are zero.
template <class T>
HEADWAY_INLINE void load_square(const T* from, int64_t pitch, int rows, int columns, float zero, Float (&square)[kLanes]) {
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; ++r) {
    square[r] = Float{};
    if (r < rows) square[r] = (columns >= kLanes ? load(from + r * pitch) : load_part(from + r * pitch, columns, zero)) - set(zero);
  }
}

// Adds the bias, masks what must not be seen, and finds the largest scores again. Rows are keys from `key` on.
template <int kColumns, class In, class Out>
HEADWAY_INLINE void adjust(const Queries<In, Out>& a, int64_t query, int queries, int64_t key, int keys, float* s, Float* most) {
  constexpr int kWidth = kColumns * kLanes;
  Int lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  for (int c = 0; c < kColumns; ++c) {
    most[c] = set(-kInfinity);
    const int here = queries - c * kLanes < kLanes ? queries - c * kLanes : kLanes;
    for (int from = 0; from < keys; from += kLanes) {
      const int rows = keys - from < kLanes ? keys - from : kLanes;
      Float added[kLanes] = {};
      if (a.bias != nullptr) {
        load_square(a.bias + (query + c * kLanes) * a.pitch_bias + key + from, a.pitch_bias, here, rows, 0.0f, added);
        transpose(added);
      }
      for (int r = 0; r < rows; ++r) {
        Float score = load(s + (from + r) * kWidth + c * kLanes) + added[r] * set(kLog2E);
        const int offset = static_cast<int>(query + c * kLanes - key - from - r);
        const Int ahead = lane + offset;  // position of the query minus that of the key
        if (a.causal) score = ahead >= 0 ? score : set(-kInfinity);
        if (a.window >= 0) {
          const int window = static_cast<int>(a.window);
          score = (ahead <= window) & (ahead >= -window) ? score : set(-kInfinity);
        }
        store(s + (from + r) * kWidth + c * kLanes, score);
        most[c] = larger(score, most[c]);
      }
    }
  }
}

template <class In, class Out>
HEADWAY_INLINE const float* as_floats(const In* from, int64_t& pitch, int rows, int head_dim, float zero, float* room) {
  if constexpr (sizeof(In) == 4) {
    return from;
  } else {
    const int whole = head_dim / kLanes * kLanes;
    for (int r = 0; r < rows; ++r) {
      for (int i = 0; i < whole; i += kLanes) store(room + r * head_dim + i, load(from + r * pitch + i) - set(zero));
      if (whole < head_dim)
        store_part(room + r * head_dim + whole, load_part(from + r * pitch + whole, head_dim - whole, zero) - set(zero),
                   head_dim - whole);
    }
    pitch = head_dim;
    return room;
  }
}

// Computes up to kColumns * kLanes queries from `first` on.
template <int kColumns, class In, class Out>
void tile(const Queries<In, Out>& a, int64_t first, int queries) {
  constexpr int kWidth = kColumns * kLanes;
  constexpr int kRaised = 4 / kColumns;  // keys at once
  constexpr bool kBytes = sizeof(In) == 1;
  constexpr int kRoom = sizeof(In) == 4 ? 1 : kBlock * kLongestHead;
  alignas(64) float q[kLongestHead * kWidth], y[kLongestHead * kWidth], s[kBlock * kWidth], room[kRoom];
  const int head_dim = a.head_dim;
  const Float scale = set(a.scale * kLog2E * (kBytes ? a.in_q.scale * a.in_k.scale : 1.0f));

  for (int c = 0; c < kColumns; ++c)
    for (int i = 0; i < head_dim; i += kLanes) {
      const int columns = head_dim - i;
      Float square[kLanes];
      load_square(a.q + (first + c * kLanes) * a.pitch_q + i, a.pitch_q, queries - c * kLanes, columns, kBytes ? a.in_q.zero : 0.0f,
                  square);
      transpose(square);
      for (int r = 0; r < kLanes && r < columns; ++r) {
        store(q + (i + r) * kWidth + c * kLanes, square[r] * scale);
        store(y + (i + r) * kWidth + c * kLanes, Float{});
      }
    }

  int64_t from = 0, end = a.length;
  const int64_t last = first + queries - 1;
  if (a.causal && last + 1 < end) end = last + 1;
  if (a.window >= 0) {
    if (first - a.window > from) from = first - a.window;
    if (last + a.window + 1 < end) end = last + a.window + 1;
  }
  Float peak[kColumns], total[kColumns];
  for (int c = 0; c < kColumns; ++c) peak[c] = set(-kInfinity), total[c] = Float{};
  for (int64_t key = from; key < end; key += kBlock) {
    const int keys = end - key < kBlock ? static_cast<int>(end - key) : kBlock;
    int64_t pitch = a.pitch_k;
    const float* k = as_floats<In, Out>(a.k + key * pitch, pitch, keys, head_dim, a.in_k.zero, room);
    Float most[kColumns], shrink[kColumns], base[kColumns];
    for (int c = 0; c < kColumns; ++c) most[c] = set(-kInfinity);
    int row = 0;
    for (; row + kKeys <= keys; row += kKeys)
      multiply_keys<kKeys, kColumns>(k + row * pitch, pitch, head_dim, q, s + row * kWidth, most);
    multiply_rest<4, kColumns>(k + row * pitch, pitch, head_dim, keys - row, q, s + row * kWidth, most);
    const bool crosses = a.causal && key + keys - 1 > first;
    if (a.bias != nullptr || crosses || a.window >= 0) adjust<kColumns>(a, first, queries, key, keys, s, most);

    for (int c = 0; c < kColumns; ++c) {
      const Float before = peak[c];
      peak[c] = larger(most[c], before);
      base[c] = peak[c] == set(-kInfinity) ? Float{} : peak[c];
      shrink[c] = exp2(before - base[c]);
      total[c] *= shrink[c];
    }
    row = 0;
    for (; row + kRaised <= keys; row += kRaised) raise<kRaised, kColumns>(s + row * kWidth, base, total);
    for (; row < keys; ++row) raise<1, kColumns>(s + row * kWidth, base, total);

    pitch = a.pitch_v;
    const float* v = as_floats<In, Out>(a.v + key * pitch, pitch, keys, head_dim, a.in_v.zero, room);
    int dim = 0;
    for (; dim + kDims <= head_dim; dim += kDims) add_values<kDims, kColumns>(v + dim, pitch, keys, s, y + dim * kWidth, shrink);
    add_rest<kDims / 2, kColumns>(v + dim, pitch, keys, head_dim - dim, s, y + dim * kWidth, shrink);
  }

  for (int c = 0; c < kColumns; ++c) {
    const int rows = queries - c * kLanes;
    Float factor = total[c] == Float{} ? Float{} : set(1.0f) / total[c];
    if constexpr (kBytes) factor *= set(a.in_v.scale);
    for (int i = 0; i < head_dim; i += kLanes) {
      const int columns = head_dim - i;
      Float square[kLanes] = {};
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r)
        if (r < columns) square[r] = load(y + (i + r) * kWidth + c * kLanes) * factor;
      transpose(square);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) {
        if (r >= rows) break;
        if constexpr (sizeof(Out) == 1) square[r] = nearest(square[r] / set(a.out.scale)) + set(a.out.zero);
        Out* to = a.y + (first + c * kLanes + r) * a.pitch_y + i;
        if (columns >= kLanes) store(to, square[r]);
        else store_part(to, square[r], columns);
      }
    }
  }
}

template <class In, class Out>
void attend(const Queries<In, Out>& a) {
  const int64_t end = a.first + a.count;
  for (int64_t first = a.first; first < end; first += 2 * kLanes) {
    const int queries = end - first < 2 * kLanes ? static_cast<int>(end - first) : 2 * kLanes;
    if (queries > kLanes) tile<2>(a, first, queries);
    else tile<1>(a, first, queries);
  }
}

}  // namespace

const AttentionTable attention_table = {attend<float, float>,   attend<Half, Half>,       attend<float, uint8_t>,
                                        attend<float, int8_t>, attend<uint8_t, uint8_t>, attend<int8_t, int8_t>};

}  // namespace headway::HEADWAY_ISA
