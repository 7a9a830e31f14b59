#include "layer_norm.h"

#include "op.h"
#include "register.h"

namespace headway {
namespace {

constexpr int64_t kShare = 16384;  // elements from which another thread pays off

// y = (s - mean(s)) / sqrt(variance(s) + epsilon) * gamma + beta over the last axis, with s = x + bias + skip; optional inputs
// that are absent are left out. Second output: s. Attribute `epsilon`.
class SkipLayerNormalization {
 public:
  static constexpr const char* kName = "SkipLayerNormalization";
  static constexpr Port kInputs[] = {{"x", ort::Type::kFloat},
                                     {"skip", ort::Type::kFloat, kOptional},
                                     {"gamma", ort::Type::kFloat},
                                     {"beta", ort::Type::kFloat, kOptional},
                                     {"bias", ort::Type::kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{"y", ort::Type::kFloat}, {"sum", ort::Type::kFloat, kOptional}};

  explicit SkipLayerNormalization(const Node& node) : epsilon_(node.number("epsilon", 1e-5f)), normalize_(best_norm_table().normalize) {}

  void compute(const Context& context) const {
    const auto x = context.input<float>(0), skip = context.input<float>(1), gamma = context.input<float>(2);
    const auto beta = context.input<float>(3), bias = context.input<float>(4);
    if (x.shape.empty()) throw Error("input 'x' is a scalar, which has no last axis");
    const int64_t width = x.shape.back(), count = product(x.shape);
    if (skip && skip.shape != x.shape)
      throw Error("input 'skip' has shape " + to_string(skip.shape) + ", input 'x' " + to_string(x.shape));
    for (const auto* one : {&gamma, &beta, &bias})
      if (*one && one->shape != Shape{width})
        throw Error(std::string("input '") + one->name + "' must be [" + std::to_string(width) + "], not " + to_string(one->shape));
    float* y = context.output<float>(0, x.shape);
    float* sum = context.output<float>(1, x.shape);
    if (count == 0) return;
    context.parallel_rows(count / width, width, kShare, [&](int64_t row, int64_t end) {
      const int64_t first = row * width;
      normalize_({x.data + first, skip ? skip.data + first : nullptr, bias.data, gamma.data, beta.data, y + first,
                  sum != nullptr ? sum + first : nullptr, end - row, width, epsilon_});
    });
  }

 private:
  float epsilon_;
  void (*normalize_)(const NormRows&);
};

}  // namespace

void register_layer_norm(Library& library) { library.add<SkipLayerNormalization>(); }

}  // namespace headway
