// Normalizes the layer of a sum, row by row. Definition: kernels/reference.py.
#pragma once

#include <cstdint>

#include "isa.h"

namespace headway {

struct NormRows {
  const float *x, *skip;      // [count, width]; skip null: none
  const float* bias;          // [width], added to every row; null: none
  const float *gamma, *beta;  // [width]; beta null: none
  float* y;                   // [count, width]
  float* sum;                 // [count, width]: x + bias + skip; null: not needed
  int64_t count, width;
  float epsilon;
};

struct NormTable {
  void (*normalize)(const NormRows& rows);
};
HEADWAY_TABLES(NormTable, norm_table)

}  // namespace headway
