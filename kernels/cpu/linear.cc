#include "linear.h"

#include <algorithm>

namespace headway {
Linear::Linear(const Node& node, const Port* ports, size_t first, size_t factors, Activation activation)
    : table_(best_dot_linear_table()), activation_(activation) {
  const auto weight = node.constant<int8_t>(first);
  const auto scale = node.constant<float>(first + 1);
  const auto bias = node.constant<float>(first + 2);
  const auto refuse = [&](size_t port, const std::string& why) {
    throw Error(std::string("input '") + ports[first + port].name + "' " + why);
  };
  if (!weight) refuse(0, "must be an initializer: it is packed once");
  if (!scale) refuse(1, "must be an initializer");
  if (weight.shape.size() != 2) refuse(0, "must be [inputs, outputs], not " + to_string(weight.shape));
  const int64_t inputs = weight.shape[0], outputs = weight.shape[1];
  if (inputs > kDeepest) refuse(0, "has " + std::to_string(inputs) + " inputs; int32 sums are exact up to " + std::to_string(kDeepest));
  const bool one_scale = product(scale.shape) == 1 && scale.shape.size() <= 1;
  if (!one_scale && scale.shape != Shape{outputs})
    refuse(1, "must be [" + std::to_string(outputs) + "] or [1], not " + to_string(scale.shape));
  if (bias && bias.shape != Shape{outputs}) refuse(2, "must be [" + std::to_string(outputs) + "], not " + to_string(bias.shape));

  if (const auto given = node.constant<float>(factors)) {
    if (given.shape != Shape{inputs})
      throw Error(std::string("input '") + ports[factors].name + "' must be [" + std::to_string(inputs) + "], not " + to_string(given.shape));
    factors_.assign(given.data, given.data + inputs);
  }

  const int64_t lanes = table_.lanes, group = table_.group;
  const int64_t depth = up(inputs, kDepthMultiple), columns = up(outputs, lanes);
  panels_ = (outputs + table_.panel - 1) / table_.panel;
  pitch_ = (up(inputs, 64) + 64) * table_.value_bytes;  // one cache line more, so that rows do not share the sets of the cache
  std::vector<int8_t> values(static_cast<size_t>(columns * depth));
  for (int64_t row = 0; row < inputs; ++row)
    for (int64_t column = 0; column < outputs; ++column) {
      const int64_t panel = column / table_.panel, inside = column - panel * table_.panel;
      const int64_t width = std::min<int64_t>(table_.panel, columns - panel * table_.panel);
      values[static_cast<size_t>(panel * table_.panel * depth + row / group * width * group + inside * group + row % group)] =
          weight.data[row * outputs + column];
    }
  if (table_.step) {
    pairs_ = pair_bytes(values, depth, columns, table_.panel, table_.step);
    values.clear();
  }

  memory_.resize(values.size() + static_cast<size_t>(columns * 12) + 63);
  char* start = reinterpret_cast<char*>(up(reinterpret_cast<intptr_t>(memory_.data()), 64));
  auto* scales = reinterpret_cast<float*>(std::copy(values.begin(), values.end(), start));
  float* biases = scales + columns;
  auto* sums = reinterpret_cast<int32_t*>(biases + columns);
  for (int64_t column = 0; column < outputs; ++column) {
    scales[column] = scale.data[one_scale ? 0 : column];
    biases[column] = bias ? bias.data[column] : 0.0f;
  }
  for (int64_t row = 0; row < inputs; ++row)
    for (int64_t column = 0; column < outputs; ++column) sums[column] += weight.data[row * outputs + column];
  weights_ = {inputs, outputs, depth, reinterpret_cast<int8_t*>(start), pairs_.panels.data(), pairs_.start.data(), scales, biases, sums,
              factors_.empty() ? nullptr : factors_.data()};
}

size_t Linear::bytes(int64_t rows) const { return static_cast<size_t>(rows * (pitch_ + 8)); }

QuantizedRows Linear::lay_out(char* memory, int64_t rows) const {
  auto* scale = reinterpret_cast<float*>(memory + rows * pitch_);
  return {memory, pitch_, scale, reinterpret_cast<int32_t*>(scale + rows)};
}

void Linear::run_block(const float* x, int64_t rows, float* y, const float* residual) const {
  const Scratch memory(bytes(rows));
  const QuantizedRows quantized = lay_out(memory.data(), rows);
  table_.quantize(x, weights_.factors, rows, weights_.inputs, quantized);
  table_.multiply({quantized, rows, &weights_, 0, panels_, y, residual, activation_});
}

void Linear::run(const Context& context, const float* x, int64_t rows, float* y, const float* residual) const {
  const int64_t inputs = weights_.inputs, outputs = weights_.outputs;
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  const auto block = [&](int64_t i) {
    const int64_t first = i * kBlock;
    run_block(x + first * inputs, std::min(kBlock, rows - first), y + first * outputs,
              residual ? residual + first * outputs : nullptr);
  };
  if (rows * inputs * outputs < kWorthSharing) {
    for (int64_t i = 0; i < blocks; ++i) block(i);
    return;
  }
  if (blocks >= kManyBlocks) {
    context.parallel(static_cast<size_t>(blocks), [&](size_t i) { block(static_cast<int64_t>(i)); });
    return;
  }
  // With few rows, threads share the columns of a block as well.
  const Scratch memory(bytes(rows));
  const QuantizedRows all = lay_out(memory.data(), rows);
  const auto from = [&](int64_t first) -> QuantizedRows {
    return {all.values + first * pitch_, pitch_, all.scale + first, all.zero + first};
  };
  prepare_rows(context, rows, [&](int64_t first, int64_t count) {
    table_.quantize(x + first * inputs, weights_.factors, count, inputs, from(first));
  });
  share_columns(context, rows, kBlock, panels_, [&](int64_t first, int64_t count, int64_t first_panel, int64_t end_panel) {
    table_.multiply({from(first), count, &weights_, first_panel, end_panel, y + first * outputs,
                     residual ? residual + first * outputs : nullptr, activation_});
  });
}

}  // namespace headway
