// A matrix product of rows quantized on the spot with int8 weights. Definition: kernels/reference_int8.py.
//
// Sums are exact: no intermediate of 16 bits saturates. Instruction sets differ in how many inputs one 32-bit word of a row holds
// (its group): four bytes, or two int16 on baseline processors without products of bytes. With dot-product instructions (AVX-512
// VNNI, AVX-VNNI, Arm's dotprod) sums have 32 bits all the way. On AVX2 without them pmaddubsw adds up two products of a size and
// a signed byte in 16 bits; what it may be given is decided once, when weights are packed (see `Panel`). Floating-point steps are
// written as the same operations on every instruction set, so that all of them give the same bits.
#pragma once

#include <cstdint>

#include "activation.h"

namespace headway {

// Rows of x as whole numbers: x = scale * (q - zero), and q between 0 and 255 (less `shift` where the processor wants signed bytes).
struct QuantizedRows {
  char* values;    // [rows] of `pitch` bytes
  int64_t pitch;
  float* scale;    // [rows]; 0 for a row of zeros, NaN for a row that has a NaN or an infinity
  int32_t* zero;   // [rows]
};

// AVX2 without dot-product instructions: pmaddubsw adds up two products of an unsigned and a signed byte in 16 bits, and pairs of
// groups fill these as far as they go in every column of a panel. Of a row's numbers a step (a few vectors' lanes) lies together
// in three planes: less 128 as signed bytes a, as sizes |a|, and as they are, q. Groups come as
//   - plain pairs, products q w: of four weights those of a sign add up to 128 at most (255 * 128 fits),
//   - pairs with moved signs, products |a| (w with a's sign): of four weights the sizes add up to 255 at most (128 * 255 fits),
//   - groups alone, with moved signs: two sizes always fit.
// -128 has no opposite: where signs move it is -127, and -1 in another group for the same inputs.
struct Panel {
  const int8_t* values;  // of all groups
  const int32_t* words;  // where each group's inputs are in a row, in bytes
  int64_t plain_pairs, moved_pairs, singles;
};
constexpr int kPlanes = 3;

// [inputs, outputs] int8, in panels of some columns; within a panel group after group of inputs, each a few vectors of columns.
struct PackedWeights {
  int64_t inputs, outputs;
  int64_t depth;                // inputs, rounded up; the rest has weight 0
  const int8_t* values;
  const Panel* panels;          // instead of values, where a table has a `step`
  const int32_t* start;         // of the sums, there: as if plain pairs were products by a too; as many as scales
  const float *scale, *bias;    // [outputs, rounded up to whole vectors]
  const int32_t* sums;          // of each column
  const float* factors;         // [inputs]: what x is multiplied with before it is quantized; null: nothing
};

struct LinearBlock {
  QuantizedRows rows;
  int64_t count;                    // of rows
  const PackedWeights* weights;
  int64_t first_panel, end_panel;
  float* y;                         // [count, outputs]
  const float* residual;            // the same, added last; null: none
  Activation activation;
};

struct LinearTable {
  int lanes;           // columns in a vector
  int panel;           // columns in a panel
  int group;           // inputs in a word of a row
  int value_bytes;     // of one quantized number
  int step;            // numbers of a plane that lie together, see `Panel`; 0 where rows have no planes
  void (*quantize)(const float* x, const float* factors, int64_t count, int64_t inputs, const QuantizedRows& rows);
  void (*multiply)(const LinearBlock& block);
};
HEADWAY_DOT_TABLES(LinearTable, linear_table)

constexpr int64_t kDepthMultiple = 16;
constexpr int64_t kDeepest = INT32_MAX / (255 * 128);  // beyond that many inputs a sum could overflow

}  // namespace headway
