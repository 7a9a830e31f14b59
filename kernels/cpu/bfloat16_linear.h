// A matmul of activations with bfloat16 weights, summed in float32. Definition: kernels/reference_bfloat16.py.
//
// Where the processor multiplies bfloat16, rows are rounded to it first (to nearest even; denormals count as zero there). Elsewhere
// rows stay float32, and weights are widened while they are read. A sum is made in the same order for every number of rows and
// threads, so that its bits depend on neither; they do depend on the instruction set.
#pragma once

#include <cstdint>

#include "activation.h"

namespace headway {

// Rows as the kernels read them: bfloat16, with zeros up to the weights' depth, or float32.
struct Bfloat16Rows {
  const char* data;
  int64_t pitch;  // bytes from one row to the next
};

// Weights [inputs, outputs] in panels of some columns; a panel has pair after pair of inputs, each for all of its columns.
struct Bfloat16Weights {
  int64_t inputs, outputs;
  int64_t depth;           // inputs, rounded up; the added ones have weight 0
  const Bfloat16* values;
  const float* bias;       // [outputs, rounded up to full panels]
};

// Where results go: float32, or rows for the next layer, which kernels that round write in bfloat16; those get no residual.
struct Bfloat16Results {
  char* data;
  int64_t pitch;  // bytes
  bool rounded;
};

struct Bfloat16Block {
  Bfloat16Rows rows;
  int64_t count;               // of rows
  const Bfloat16Weights* weights;
  int64_t first_panel, end_panel;
  Bfloat16Results results;
  const float* residual;       // [count, outputs], added last; null: none
  Activation activation;
};

struct Bfloat16Table {
  int panel;    // columns in a panel
  int columns;  // columns of the last panel are rounded up to this
  int depth;    // inputs are rounded up to this
  int block;    // rows computed together: the weights are read once for each block
  // Rounds rows of float32 to bfloat16; null where they stay float32.
  void (*round)(const float* x, int64_t count, int64_t inputs, int64_t depth, char* to, int64_t pitch);
  void (*multiply)(const Bfloat16Block& block);
};
HEADWAY_BFLOAT16_TABLES(Bfloat16Table, bfloat16_linear_table)

}  // namespace headway
