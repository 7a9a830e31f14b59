#include <algorithm>

#include "layer_inputs.h"
#include "linear.h"
#include "register.h"

namespace headway {
namespace {

// y = act((x * factors) w * scale + bias) + residual; each row of x is quantized to 8 bits on its own. Attribute `activation`.
class QuantizedLinear {
 public:
  static constexpr const char* kName = "QuantizedLinear";
  static constexpr Port kInputs[] = {{"x", ort::Type::kFloat},
                                     {"weight", ort::Type::kInt8},
                                     {"scale", ort::Type::kFloat},
                                     {"bias", ort::Type::kFloat, kOptional},
                                     {"residual", ort::Type::kFloat, kOptional},
                                     {"factors", ort::Type::kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{"y", ort::Type::kFloat}};

  explicit QuantizedLinear(const Node& node)
      : linear_(node, kInputs, 1, 5, activation_of(node)), has_bias_(node.constant<float>(3)), has_factors_(node.constant<float>(5)) {}

  void compute(const Context& context) {
    const auto x = checked(context.input<float>(0), linear_.inputs());
    const auto residual = context.input<float>(4);
    if (!has_bias_ && context.input<float>(3)) throw Error("input 'bias' must be an initializer");
    if (!has_factors_ && context.input<float>(5)) throw Error("input 'factors' must be an initializer");
    const Shape shape = with_last(x.shape, linear_.outputs());
    check_residual(residual, shape);
    float* y = context.output<float>(0, shape);
    if (product(shape) == 0) return;
    linear_.run(context, x.data, product(shape) / linear_.outputs(), y, residual.data);
  }

 private:
  Linear linear_;
  bool has_bias_, has_factors_;
};

// y = (gelu((x * factors_up) w_up + b_up) * factors_down) w_down + b_down + residual, with the bits of two QuantizedLinear. The
// activations between them stay in a block of rows. Attribute `activation` (default gelu) belongs to the first.
class QuantizedFeedForward {
 public:
  static constexpr const char* kName = "QuantizedFeedForward";
  static constexpr Port kInputs[] = {{"x", ort::Type::kFloat},
                                     {"weight_up", ort::Type::kInt8},
                                     {"scale_up", ort::Type::kFloat},
                                     {"bias_up", ort::Type::kFloat},
                                     {"weight_down", ort::Type::kInt8},
                                     {"scale_down", ort::Type::kFloat},
                                     {"bias_down", ort::Type::kFloat},
                                     {"residual", ort::Type::kFloat, kOptional},
                                     {"factors_up", ort::Type::kFloat, kOptional},
                                     {"factors_down", ort::Type::kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{"y", ort::Type::kFloat}};

  explicit QuantizedFeedForward(const Node& node)
      : up_(node, kInputs, 1, 8, activation_of(node, "gelu")),
        down_(node, kInputs, 4, 9, Activation::kNone),
        has_factors_{static_cast<bool>(node.constant<float>(8)), static_cast<bool>(node.constant<float>(9))} {
    if (!node.constant<float>(3)) throw Error("input 'bias_up' must be an initializer");
    if (!node.constant<float>(6)) throw Error("input 'bias_down' must be an initializer");
    if (up_.outputs() != down_.inputs())
      throw Error("input 'weight_down' has " + std::to_string(down_.inputs()) + " inputs, 'weight_up' " +
                  std::to_string(up_.outputs()) + " outputs");
  }

  void compute(const Context& context) {
    const auto x = checked(context.input<float>(0), up_.inputs());
    const auto residual = context.input<float>(7);
    for (size_t i = 0; i < 2; ++i)
      if (!has_factors_[i] && context.input<float>(8 + i))
        throw Error(std::string("input '") + kInputs[8 + i].name + "' must be an initializer");
    const Shape shape = with_last(x.shape, down_.outputs());
    check_residual(residual, shape);
    float* y = context.output<float>(0, shape);
    if (product(shape) == 0) return;
    const int64_t rows = product(shape) / down_.outputs();
    constexpr int64_t kBlock = Linear::kBlock;
    const int64_t blocks = (rows + kBlock - 1) / kBlock;
    const auto bytes = [&](int64_t count) { return static_cast<size_t>(count * up_.outputs()) * sizeof(float); };
    if (blocks < kManyBlocks) {  // threads share columns: one matmul after the other
      const Scratch memory(bytes(rows));
      auto* between = reinterpret_cast<float*>(memory.data());
      up_.run(context, x.data, rows, between, nullptr);
      down_.run(context, between, rows, y, residual.data);
      return;
    }
    context.parallel(static_cast<size_t>(blocks), [&](size_t i) {
      const int64_t first = static_cast<int64_t>(i) * kBlock, count = std::min(kBlock, rows - first);
      const Scratch memory(bytes(count));
      auto* between = reinterpret_cast<float*>(memory.data());
      up_.run_block(x.data + first * up_.inputs(), count, between, nullptr);
      down_.run_block(between, count, y + first * down_.outputs(),
                      residual ? residual.data + first * down_.outputs() : nullptr);
    });
  }

 private:
  Linear up_, down_;
  bool has_factors_[2];
};

}  // namespace

void register_quantized_linear(Library& library) {
  library.add<QuantizedLinear>();
  library.add<QuantizedFeedForward>();
}

}  // namespace headway
