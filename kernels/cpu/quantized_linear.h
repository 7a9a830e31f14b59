// A matrix product of rows quantised on the spot with int8 weights. Definition: kernels/reference_int8.py.
//
// Sums are exact: int32 all the way, no intermediate of 16 bits that could saturate. Instruction sets differ in how many inputs
// one 32-bit word of a row holds (its group): with dot-product instructions (AVX-512 VNNI, AVX-VNNI, Arm's dotprod) four bytes;
// without them two int16, because x86's product of bytes (pmaddubsw) saturates and its product of int16 (pmaddwd) does not.
// The alternative, keeping bytes and clearing the weight's sign against the row's (psignb, pmaddubsw, pmaddwd), needs as many
// multiplications per input and one more instruction. Floating-point steps are written as the same operations on every
// instruction set, so that all of them give the same bits.
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

// [inputs, outputs] int8, in panels of some columns; within a panel group after group of inputs, each a few vectors of columns.
struct PackedWeights {
  int64_t inputs, outputs;
  int64_t depth;                // inputs, rounded up; the rest has weight 0
  const int8_t* values;
  const float *scale, *bias;    // [outputs, rounded up to whole vectors]
  const int32_t* sums;          // of each column
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
  void (*quantize)(const float* x, int64_t count, int64_t inputs, const QuantizedRows& rows);
  void (*multiply)(const LinearBlock& block);
  void (*activate)(float* y, int64_t count, Activation activation);  // for tests
};
HEADWAY_DOT_TABLES(LinearTable, linear_table)

constexpr int64_t kDepthMultiple = 16;
constexpr int64_t kDeepest = INT32_MAX / (255 * 128);  // beyond that many inputs a sum could overflow

}  // namespace headway
