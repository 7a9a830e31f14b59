#include "activation.h"

#include "op.h"
#include "register.h"

namespace headway {
namespace {

constexpr int64_t kShare = 16384;  // elements from which another thread pays off

// y = act(x + bias), x [..., width], bias [width]. Attribute `activation`.
class BiasActivation {
 public:
  static constexpr const char* kName = "BiasActivation";
  static constexpr Port kInputs[] = {{"x", ort::Type::kFloat}, {"bias", ort::Type::kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{"y", ort::Type::kFloat}};

  explicit BiasActivation(const Node& node) : activation_(activation_of(node)), activate_(best_activation_table().activate) {}

  void compute(const Context& context) const {
    const auto x = context.input<float>(0);
    const auto bias = context.input<float>(1);
    if (x.shape.empty()) throw Error("input 'x' is a scalar, which has no last axis");
    const int64_t width = x.shape.back(), count = product(x.shape);
    if (bias && bias.shape != Shape{width})
      throw Error("input 'bias' must be [" + std::to_string(width) + "], not " + to_string(bias.shape));
    float* y = context.output<float>(0, x.shape);
    if (count == 0) return;
    context.parallel_rows(count / width, width, kShare, [&](int64_t first, int64_t end) {
      for (int64_t row = first; row < end; ++row)
        activate_(x.data + row * width, bias.data, y + row * width, width, activation_);
    });
  }

 private:
  Activation activation_;
  void (*activate_)(const float*, const float*, float*, int64_t, Activation);
};

}  // namespace

Activation activation_of(const Node& node, const char* otherwise) {
  static constexpr const char* kNames[] = {"none", "gelu", "gelu_tanh", "relu", "tanh"};
  const std::string name = node.text("activation", otherwise);
  for (int i = 0; i < 5; ++i)
    if (name == kNames[i]) return static_cast<Activation>(i);
  throw Error("attribute 'activation' is '" + name + "', not one of none, gelu, gelu_tanh, relu, tanh");
}

void register_activation(Library& library) { library.add<BiasActivation>(); }

}  // namespace headway
