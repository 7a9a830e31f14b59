#include "bfloat16_layer.h"
#include "layer_inputs.h"
#include "register.h"

namespace headway {
namespace {

// y = act(x w + bias) + residual with bfloat16 weights. Attribute `activation`.
class Bfloat16Linear {
 public:
  static constexpr const char* kName = "Bfloat16Linear";
  static constexpr Port kInputs[] = {{"x", ort::Type::kFloat},
                                     {"weight", ort::Type::kBfloat16},
                                     {"bias", ort::Type::kFloat, kOptional},
                                     {"residual", ort::Type::kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{"y", ort::Type::kFloat}};

  explicit Bfloat16Linear(const Node& node) : layer_(node, kInputs, 1, activation_of(node)), has_bias_(node.constant<float>(2)) {}

  void compute(const Context& context) {
    const auto x = checked(context.input<float>(0), layer_.inputs());
    const auto residual = context.input<float>(3);
    if (!has_bias_ && context.input<float>(2)) throw Error("input 'bias' must be an initializer");
    const Shape shape = with_last(x.shape, layer_.outputs());
    check_residual(residual, shape);
    float* y = context.output<float>(0, shape);
    if (product(shape) == 0) return;
    layer_.run(context, x.data, product(shape) / layer_.outputs(), y, residual.data);
  }

 private:
  Bfloat16Layer layer_;
  bool has_bias_;
};

// y = gelu(x w_up + b_up) w_down + b_down + residual, with the bits of two Bfloat16Linear. The activations between them stay in a
// block of rows, in bfloat16 where the processor multiplies that. Attribute `activation` (default gelu) belongs to the first.
class Bfloat16FeedForward {
 public:
  static constexpr const char* kName = "Bfloat16FeedForward";
  static constexpr Port kInputs[] = {{"x", ort::Type::kFloat},
                                     {"weight_up", ort::Type::kBfloat16},
                                     {"bias_up", ort::Type::kFloat},
                                     {"weight_down", ort::Type::kBfloat16},
                                     {"bias_down", ort::Type::kFloat},
                                     {"residual", ort::Type::kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{"y", ort::Type::kFloat}};

  explicit Bfloat16FeedForward(const Node& node)
      : up_(node, kInputs, 1, activation_of(node, "gelu")), down_(node, kInputs, 3, Activation::kNone) {
    if (!node.constant<float>(2)) throw Error("input 'bias_up' must be an initializer");
    if (!node.constant<float>(4)) throw Error("input 'bias_down' must be an initializer");
    if (up_.outputs() != down_.inputs())
      throw Error("input 'weight_down' has " + std::to_string(down_.inputs()) + " inputs, 'weight_up' " +
                  std::to_string(up_.outputs()) + " outputs");
  }

  void compute(const Context& context) {
    const auto x = checked(context.input<float>(0), up_.inputs());
    const auto residual = context.input<float>(5);
    const Shape shape = with_last(x.shape, down_.outputs());
    check_residual(residual, shape);
    float* y = context.output<float>(0, shape);
    if (product(shape) == 0) return;
    down_.run_behind(up_, context, x.data, product(shape) / down_.outputs(), y, residual.data);
  }

 private:
  Bfloat16Layer up_, down_;
};

}  // namespace

void register_bfloat16_linear(Library& library) {
  library.add<Bfloat16Linear>();
  library.add<Bfloat16FeedForward>();
}

}  // namespace headway
