// softmax(scale * x + bias) over rows. Definition: kernels/reference.py.
#pragma once

#include <cstdint>

#include "isa.h"

namespace headway {

constexpr int64_t kRowsUnderWay = 5;

template <class T, class Out = T>
struct SoftmaxRows {
  const T* x;                // [count, length]
  const T* const* bias;      // for each row a row of `length` (or one element, see bias_step); null: no bias
  int bias_step;             // 1: one element per column, 0: one for the row
  Out* y;                    // [count, length]
  float* room;               // scratch memory [kRowsUnderWay, room_pitch]
  int64_t room_pitch;        // length, rounded up to a cache line
  int64_t count;
  int64_t length;
  float scale;
  bool stream;                // y is written past the caches
  float out_scale, out_zero;  // of int8 and uint8: y = round(softmax / out_scale) + out_zero
};

struct SoftmaxTable {
  void (*float32)(const SoftmaxRows<float>&);
  void (*float16)(const SoftmaxRows<Half>&);
  void (*to_uint8)(const SoftmaxRows<float, uint8_t>&);
  void (*to_int8)(const SoftmaxRows<float, int8_t>&);
  void (*exp2)(const float* x, float* y, int64_t count);  // y = 2^x, for tests
};
HEADWAY_TABLES(SoftmaxTable, softmax_table)

}  // namespace headway
