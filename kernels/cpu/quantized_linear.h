// A matmul of activations, quantized per row on the fly, with int8 weights. Definition: kernels/reference_int8.py.
//
// Sums are exact: no 16-bit intermediate saturates. Instruction sets differ in how many inputs one 32-bit word of a row holds
// (its group): four bytes, or two int16 on baseline processors without int8 dot products. With dot-product instructions (AVX-512
// VNNI, AVX-VNNI, Arm's dotprod) all sums have 32 bits. On AVX2 without them, pmaddubsw adds two products of an unsigned and a
// signed byte in 16 bits; what it may be given is decided once, when weights are packed (see `Panel`). Floating-point steps are
// written as the same operations on every instruction set, so that all of them give the same bits.
#pragma once

#include <cstdint>

#include "activation.h"

namespace headway {

// Rows of x as integers: x = scale * (q - zero), with q between 0 and 255 (less `shift` where the processor needs signed bytes).
struct QuantizedRows {
  char* values;    // [rows] of `pitch` bytes
  int64_t pitch;
  float* scale;    // [rows]; 0 for a row of zeros, NaN for a row that has a NaN or an infinity
  int32_t* zero;   // [rows]
};

// AVX2 without dot-product instructions: pmaddubsw adds two products of an unsigned and a signed byte in 16 bits. Pairs of
// groups use the 16 bits as far as possible in every column of a panel. The elements of a row lie in steps (of a few vectors)
// in three planes: a = q - 128 as signed bytes, the magnitudes |a|, and q. Groups come as
//   - plain pairs, products q w: of four weights, those of one sign sum to 128 at most (255 * 128 fits),
//   - pairs with moved signs, products |a| (w with the sign of a): the magnitudes of four weights sum to 255 at most (128 * 255 fits),
//   - single groups, with moved signs: two magnitudes always fit.
// -128 has no opposite: where signs move it is split into -127, and -1 in another group for the same inputs.
struct Panel {
  const int8_t* values;  // of all groups
  const int32_t* words;  // offset of each group's inputs in a row, in bytes
  int64_t plain_pairs, moved_pairs, singles;
};
constexpr int kPlanes = 3;

// Weights [inputs, outputs] int8, in panels of some columns; a panel has group after group of inputs, each a few vectors of columns.
struct PackedWeights {
  int64_t inputs, outputs;
  int64_t depth;                // inputs, rounded up; the added ones have weight 0
  const int8_t* values;
  const Panel* panels;          // used in place of values where a table has a `step`
  const int32_t* start;         // initial sums for panels, which correct plain pairs for products by a; as many as scales
  const float *scale, *bias;    // [outputs, rounded up to full vectors]
  const int32_t* sums;          // of each column
  const float* factors;         // [inputs], multiplied with x before it is quantized; null: none
};

struct LinearBlock {
  QuantizedRows rows;
  int64_t count;                    // of rows
  const PackedWeights* weights;
  int64_t first_panel, end_panel;
  float* y;                         // [count, outputs]
  const float* residual;            // [count, outputs], added last; null: none
  Activation activation;
};

struct LinearTable {
  int lanes;           // columns in a vector
  int panel;           // columns in a panel
  int group;           // inputs in a word of a row
  int value_bytes;     // of one quantized number
  int step;            // elements of a plane that lie together, see `Panel`; 0 where rows have no planes
  void (*quantize)(const float* x, const float* factors, int64_t count, int64_t inputs, const QuantizedRows& rows);
  void (*multiply)(const LinearBlock& block);
};
HEADWAY_DOT_TABLES(LinearTable, linear_table)

constexpr int64_t kDepthMultiple = 16;
constexpr int64_t kDeepest = INT32_MAX / (255 * 128);  // with more inputs a sum could overflow

}  // namespace headway
