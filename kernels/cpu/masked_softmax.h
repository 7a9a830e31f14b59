// softmax(scale * x + bias) over rows. Definition: kernels/reference.py.
#pragma once

#include <cstdint>

#include "isa.h"

namespace headway {

template <class T>
struct SoftmaxRows {
  const T* x;                // [count, length]
  const T* const* bias;      // one row of `length` (or one number, see bias_step) for each row; null: no bias
  int bias_step;             // 1: a number for each column, 0: one for the whole row
  T* y;                      // [count, length]
  int64_t count;
  int64_t length;
  float scale;
};

struct SoftmaxTable {
  void (*float32)(const SoftmaxRows<float>&);
  void (*float16)(const SoftmaxRows<Half>&);
  void (*exp2)(const float* x, float* y, int64_t count);  // y = 2^x, for tests
};
HEADWAY_TABLES(SoftmaxTable, softmax_table)

}  // namespace headway
