#include "bfloat16_layer.h"

#include <algorithm>
#include <string>

#include "scratch.h"

namespace headway {

Bfloat16Layer::Bfloat16Layer(const Node& node, const Port* ports, size_t first, Activation activation)
    : table_(best_bfloat16_bfloat16_linear_table()), activation_(activation) {
  const auto weight = node.constant<Bfloat16>(first);
  const auto bias = node.constant<float>(first + 1);
  const auto refuse = [&](size_t port, const std::string& why) {
    throw Error(std::string("input '") + ports[first + port].name + "' " + why);
  };
  if (!weight) refuse(0, "must be an initializer: it is packed once");
  if (weight.shape.size() != 2) refuse(0, "must be [inputs, outputs], not " + to_string(weight.shape));
  const int64_t inputs = weight.shape[0], outputs = weight.shape[1];
  if (inputs == 0) refuse(0, "has no inputs");
  if (bias && bias.shape != Shape{outputs}) refuse(1, "must be [" + std::to_string(outputs) + "], not " + to_string(bias.shape));

  const int64_t panel = table_.panel, depth = up(inputs, table_.depth), columns = up(outputs, table_.columns);
  panels_ = (outputs + panel - 1) / panel;
  memory_.resize(static_cast<size_t>(columns * depth) * sizeof(Bfloat16) + static_cast<size_t>(columns) * sizeof(float) + 63);
  char* start = reinterpret_cast<char*>(up(reinterpret_cast<intptr_t>(memory_.data()), 64));
  auto* values = reinterpret_cast<Bfloat16*>(start);
  auto* biases = reinterpret_cast<float*>(start + columns * depth * static_cast<int64_t>(sizeof(Bfloat16)));
  for (int64_t row = 0; row < inputs; ++row)
    for (int64_t left = 0; left < outputs; left += panel) {
      const int64_t width = std::min(panel, columns - left), there = std::min(panel, outputs - left);
      Bfloat16* to = values + left * depth + row / 2 * width * 2 + row % 2;
      for (int64_t column = 0; column < there; ++column) to[column * 2] = weight.data[row * outputs + left + column];
    }
  if (bias) std::copy(bias.data, bias.data + outputs, biases);
  weights_ = {inputs, outputs, depth, values, biases};
}

// One cache line more than the numbers, so that rows do not share the sets of the cache.
int64_t Bfloat16Layer::pitch() const { return table_.round != nullptr ? up(weights_.inputs, 64) * 2 + 64 : up(weights_.inputs, 16) * 4; }

Bfloat16Rows Bfloat16Layer::rounded(const float* x, int64_t rows, char* memory) const {
  if (table_.round == nullptr) return {reinterpret_cast<const char*>(x), inputs() * 4};
  table_.round(x, rows, inputs(), weights_.depth, memory, pitch());
  return {memory, pitch()};
}

Bfloat16Rows Bfloat16Layer::rounded_by_threads(const Context& context, const float* x, int64_t rows, char* memory) const {
  if (table_.round == nullptr) return rounded(x, rows, memory);
  prepare_rows(context, rows, [&](int64_t first, int64_t count) {
    rounded(x + first * inputs(), count, memory + first * pitch());
  });
  return {memory, pitch()};
}

void Bfloat16Layer::multiply(Bfloat16Rows rows, int64_t first, int64_t count, int64_t first_panel, int64_t end_panel,
                             Bfloat16Results results, const float* residual) const {
  rows.data += first * rows.pitch;
  results.data += first * results.pitch;
  table_.multiply({rows, count, &weights_, first_panel, end_panel, results, residual ? residual + first * outputs() : nullptr,
                   activation_});
}

void Bfloat16Layer::share(const Context& context, Bfloat16Rows rows, int64_t count, Bfloat16Results results,
                          const float* residual) const {
  if (count * inputs() * outputs() < kWorthSharing) {
    for (int64_t first = 0; first < count; first += block())
      multiply(rows, first, std::min(block(), count - first), 0, panels_, results, residual);
    return;
  }
  share_columns(context, count, block(), panels_, [&](int64_t first, int64_t some, int64_t first_panel, int64_t end_panel) {
    multiply(rows, first, some, first_panel, end_panel, results, residual);
  });
}

void Bfloat16Layer::run(const Context& context, const float* x, int64_t rows, float* y, const float* residual) const {
  const int64_t blocks = (rows + block() - 1) / block();
  if (blocks < kManyBlocks) {
    const Scratch memory(rounded_bytes(rows));
    share(context, rounded_by_threads(context, x, rows, memory.data()), rows, finished(y), residual);
    return;
  }
  context.parallel(static_cast<size_t>(blocks), [&](size_t i) {
    const int64_t first = static_cast<int64_t>(i) * block(), count = std::min(block(), rows - first);
    const Scratch memory(rounded_bytes(count));
    multiply(rounded(x + first * inputs(), count, memory.data()), 0, count, 0, panels_, finished(y + first * outputs()),
             residual ? residual + first * outputs() : nullptr);
  });
}

void Bfloat16Layer::run_behind(const Bfloat16Layer& before, const Context& context, const float* x, int64_t rows, float* y,
                               const float* residual) const {
  const int64_t blocks = (rows + block() - 1) / block();
  if (blocks < kManyBlocks) {  // threads share columns: one matmul after the other
    const Scratch memory(static_cast<size_t>(rows * pitch()));
    const Bfloat16Results results = between(memory.data());
    {
      const Scratch inputs(before.rounded_bytes(rows));
      before.share(context, before.rounded_by_threads(context, x, rows, inputs.data()), rows, results, nullptr);
    }
    share(context, {results.data, results.pitch}, rows, finished(y), residual);
    return;
  }
  context.parallel(static_cast<size_t>(blocks), [&](size_t i) {
    const int64_t first = static_cast<int64_t>(i) * block(), count = std::min(block(), rows - first);
    const Scratch memory(static_cast<size_t>(count * pitch()) + before.rounded_bytes(count));
    const Bfloat16Results results = between(memory.data());
    const Bfloat16Rows given = before.rounded(x + first * before.inputs(), count, memory.data() + count * pitch());
    before.multiply(given, 0, count, 0, before.panels_, results, nullptr);
    multiply({results.data, results.pitch}, 0, count, 0, panels_, finished(y + first * outputs()),
             residual ? residual + first * outputs() : nullptr);
  });
}

}  // namespace headway
