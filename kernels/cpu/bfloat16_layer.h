// A layer y = act(x w + bias) + residual with bfloat16 weights that are packed once; the bfloat16 ops consist of these.
#pragma once

#include <vector>

#include "bfloat16_linear.h"
#include "op.h"

namespace headway {

class Bfloat16Layer {
 public:
  // Inputs `first` and `first` + 1 of the node are weight and bias; the bias may be absent.
  Bfloat16Layer(const Node& node, const Port* ports, size_t first, Activation activation);

  int64_t inputs() const { return weights_.inputs; }
  int64_t outputs() const { return weights_.outputs; }
  int64_t block() const { return table_.block; }

  // Computes y [rows, outputs] of x [rows, inputs] on the runtime's threads. The bits depend on neither the threads nor other rows.
  void run(const Context& context, const float* x, int64_t rows, float* y, const float* residual) const;

  // Computes y of the results of the layer `before`, whose activations between are in memory together, or block by block.
  void run_behind(const Bfloat16Layer& before, const Context& context, const float* x, int64_t rows, float* y, const float* residual) const;

 private:
  int64_t pitch() const;  // bytes of a row that this layer reads
  Bfloat16Results between(char* memory) const { return {memory, pitch(), table_.round != nullptr}; }
  Bfloat16Results finished(float* y) const { return {reinterpret_cast<char*>(y), outputs() * 4, false}; }
  size_t rounded_bytes(int64_t rows) const { return table_.round != nullptr ? static_cast<size_t>(rows * pitch()) : 0; }

  Bfloat16Rows rounded(const float* x, int64_t rows, char* memory) const;
  Bfloat16Rows rounded_by_threads(const Context& context, const float* x, int64_t rows, char* memory) const;
  void multiply(Bfloat16Rows rows, int64_t first, int64_t count, int64_t first_panel, int64_t end_panel, Bfloat16Results results,
                const float* residual) const;
  void share(const Context& context, Bfloat16Rows rows, int64_t count, Bfloat16Results results, const float* residual) const;

  const Bfloat16Table& table_;
  Activation activation_;
  Bfloat16Weights weights_{};
  int64_t panels_ = 0;
  std::vector<char> memory_;
};

}  // namespace headway
