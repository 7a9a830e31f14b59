// softmax(scale * q kᵀ + bias) v of one head of one sequence, for some of its queries. Definition: kernels/reference.py.
#pragma once

#include <cstdint>

#include "isa.h"

namespace headway {

constexpr int kLongestHead = 256;

// What an int8 or uint8 element q means: (q - zero) * scale. Ignored for floats.
struct Quantization {
  float scale = 1.0f;
  float zero = 0.0f;
};

template <class In, class Out>
struct Queries {
  const In *q, *k, *v;  // of this head, from the first token of the sequence on
  Out* y;
  int64_t pitch_q, pitch_k, pitch_v, pitch_y;  // elements from one token to the next
  int head_dim;
  int64_t length;                              // keys
  int64_t first, count;                        // queries; first is a multiple of 32
  float scale;
  const float* bias;  // [positions, pitch_bias], one row per query; null: none
  int64_t pitch_bias;
  bool causal;     // a query does not see later keys
  int64_t window;  // nor keys at a larger distance than this, where it is not negative
  Quantization in_q, in_k, in_v, out;
};

struct AttentionTable {
  void (*float32)(const Queries<float, float>&);
  void (*float16)(const Queries<Half, Half>&);
  void (*float_to_uint8)(const Queries<float, uint8_t>&);
  void (*float_to_int8)(const Queries<float, int8_t>&);
  void (*uint8)(const Queries<uint8_t, uint8_t>&);
  void (*int8)(const Queries<int8_t, int8_t>&);
};
HEADWAY_TABLES(AttentionTable, attention_table)

}  // namespace headway
