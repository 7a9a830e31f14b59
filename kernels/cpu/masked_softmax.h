// softmax(scale * x + bias) over rows. Definition: kernels/reference.py.
#pragma once

#include <cstdint>

#include "isa.h"

namespace headway {

constexpr int64_t kRowsUnderWay = 5;

template <class T, class Out = T>
struct SoftmaxRows {
  const T* x;                // [count, length]
  const T* const* bias;      // one row of `length` (or one number, see bias_step) for each row; null: no bias
  int bias_step;             // 1: a number for each column, 0: one for the whole row
  Out* y;                    // [count, length]
  float* room;               // [kRowsUnderWay, room_pitch] to work in
  int64_t room_pitch;        // length, rounded up to a cache line
  int64_t count;
  int64_t length;
  float scale;
  bool stream;                // y goes past the caches
  float out_scale, out_zero;  // of bytes: y = round(softmax / out_scale) + out_zero
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
