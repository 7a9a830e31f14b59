// A matrix product of rows quantised on the spot with int8 weights. Definition: kernels/reference_int8.py.
//
// Sums are exact: no intermediate of 16 bits saturates. Instruction sets differ in how many inputs one 32-bit word of a row holds
// (its group): four bytes, or two int16 on baseline processors without products of bytes. With dot-product instructions (AVX-512
// VNNI, AVX-VNNI, Arm's dotprod) sums have 32 bits all the way. On AVX2 without them pmaddubsw adds up two products of a size and
// a signed byte in 16 bits; what it may be given is decided once, when weights are packed (see `Panel`). Floating-point steps are
// written as the same operations on every instruction set, so that all of them give the same bits.
#pragma once

#include <cstdint>

#include "isa.h"

namespace headway {

enum class Activation { kNone, kGelu, kGeluTanh, kRelu, kTanh };

// Rows of x as whole numbers: x = scale * (q - zero), and q between 0 and 255 (less `shift` where the processor wants signed bytes).
struct QuantizedRows {
  char* values;    // [rows] of `pitch` bytes
  int64_t pitch;
  float* scale;    // [rows]; 0 for a row of zeros, NaN for a row that has a NaN or an infinity
  int32_t* zero;   // [rows]
};

// Where signs move: a row has its numbers as signed bytes, and beside them their sizes, 0 to 128; a product is that of the size and
// of the weight with the number's sign. Four of them fit into 16 bits where the weights' sizes add up to 255 at most: so groups
// come in pairs that keep this in every column, whichever they find, and those that find none come alone, of two products a
// column. -128 has no opposite: it is -127, and -1 in a group of its own for the same inputs.
struct Panel {
  const int8_t* values;    // of all groups, the pairs' first
  const int32_t* words;    // where in a row each group's inputs are, in bytes
  int64_t pairs, singles;
};

// [inputs, outputs] int8, in panels of some columns; within a panel group after group of inputs, each a few vectors of columns.
struct PackedWeights {
  int64_t inputs, outputs;
  int64_t depth;                // inputs, rounded up; the rest has weight 0
  const int8_t* values;
  const Panel* panels;          // instead of values, where signs move
  const float *scale, *bias;    // [outputs, rounded up to whole vectors]
  const int32_t* sums;          // of each column
  const float* factors;         // [inputs]: what x is multiplied with before it is quantised; null: nothing
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
  int value_bytes;     // of one quantised number
  int sizes;           // where signs move: so many numbers of a row, then their sizes; 0 elsewhere
  void (*quantize)(const float* x, const float* factors, int64_t count, int64_t inputs, const QuantizedRows& rows);
  void (*multiply)(const LinearBlock& block);
  void (*activate)(float* y, int64_t count, Activation activation);  // for tests
};
HEADWAY_DOT_TABLES(LinearTable, linear_table)

constexpr int64_t kDepthMultiple = 16;
constexpr int64_t kDeepest = INT32_MAX / (255 * 128);  // beyond that many inputs a sum could overflow

}  // namespace headway
