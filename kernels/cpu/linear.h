// A layer y = act(x w + bias) + residual with int8 weights that are packed once; the quantized ops consist of these.
#pragma once

#include <string>
#include <vector>

#include "byte_pairs.h"
#include "op.h"
#include "quantized_linear.h"
#include "scratch.h"

namespace headway {

class Linear {
 public:
  // Inputs `first`, `first` + 1 and `first` + 2 of the node are weight, scale and bias; input `factors` scales x. The last two
  // may be absent.
  Linear(const Node& node, const Port* ports, size_t first, size_t factors, Activation activation);

  int64_t inputs() const { return weights_.inputs; }
  int64_t outputs() const { return weights_.outputs; }

  // Computes y [rows, outputs] of x [rows, inputs] on the runtime's threads. The bits depend on neither the threads nor other rows.
  void run(const Context& context, const float* x, int64_t rows, float* y, const float* residual) const;

  // Computes a few rows on this thread.
  void run_block(const float* x, int64_t rows, float* y, const float* residual) const;

  static constexpr int64_t kBlock = 96;  // rows quantized together: a multiple of all tiles

 private:
  QuantizedRows lay_out(char* memory, int64_t rows) const;
  size_t bytes(int64_t rows) const;

  const LinearTable& table_;
  Activation activation_;
  PackedWeights weights_{};
  int64_t panels_ = 0, pitch_ = 0;
  std::vector<char> memory_;
  BytePairs pairs_;
  std::vector<float> factors_;
};

}  // namespace headway
