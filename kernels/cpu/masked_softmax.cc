#include "masked_softmax.h"

#include <algorithm>

#include "linear.h"
#include "op.h"
#include "register.h"

namespace headway {
namespace {

constexpr int64_t kStreamed = 1 << 25;  // bytes that no cache will hold until they are read again

template <class Out>
constexpr const char* name_of() {
  if constexpr (std::is_same_v<Out, uint8_t>) return "MaskedSoftmaxToUint8";
  else if constexpr (std::is_same_v<Out, int8_t>) return "MaskedSoftmaxToInt8";
  else return "MaskedSoftmax";
}

// Finds where in bias the rows of x begin, one after the other.
class Walk {
 public:
  // `steps` are the strides of bias along the axes of x; empty where there is no bias.
  Walk(const Shape& shape, const Shape& steps, int64_t row) : shape_(shape), steps_(steps), at_(steps.size(), 0) {
    for (size_t axis = steps.size(); axis-- > 1;) {
      const size_t before = axis - 1;
      at_[before] = row % shape[before];
      offset_ += at_[before] * steps[before];
      row /= shape[before];
    }
  }

  int64_t offset() const { return offset_; }

  void next() {
    for (size_t axis = steps_.size(); axis-- > 1;) {
      const size_t before = axis - 1;
      offset_ += steps_[before];
      if (++at_[before] < shape_[before]) return;
      offset_ -= at_[before] * steps_[before];
      at_[before] = 0;
    }
  }

 private:
  const Shape &shape_, &steps_;
  Shape at_;
  int64_t offset_ = 0;
};

// y = softmax(scale * x + bias) over the last axis; bias broadcasts to x. Attribute `scale`, by default 1. The ops that give int8
// or uint8 quantize in the same pass with the attributes `y_scale` and `y_zero_point`.
template <class T, class Out = T>
class MaskedSoftmax {
 public:
  static constexpr const char* kName = name_of<Out>();
  static constexpr Port kInputs[] = {{"x", type_of<T>()}, {"bias", type_of<T>(), kOptional}};
  static constexpr Port kOutputs[] = {{"y", type_of<Out>()}};

  explicit MaskedSoftmax(const Node& node)
      : scale_(node.number("scale", 1.0f)),
        out_scale_(node.number("y_scale", 0.0f)),
        out_zero_(static_cast<float>(node.integer("y_zero_point", 0))),
        rows_(kernel()) {
    if (sizeof(Out) == 1 && !(out_scale_ > 0.0f)) throw Error("attribute 'y_scale' is missing or not above 0");
  }

  void compute(const Context& context) const {
    const auto x = context.input<T>(0);
    const auto bias = context.input<T>(1);
    if (x.shape.empty()) throw Error("input 'x' is a scalar, which has no last axis");
    Out* y = context.output<Out>(0, x.shape);
    const int64_t length = x.shape.back();
    if (product(x.shape) == 0) return;
    const int64_t rows = product(x.shape) / length;
    const Shape steps = bias ? steps_of(bias, x.shape) : Shape{};

    const int64_t pitch = (length + 15) / 16 * 16;
    const bool stream = product(x.shape) * static_cast<int64_t>(sizeof(Out)) >= kStreamed;

    constexpr int64_t kChunk = 256;  // rows whose bias is found at once
    context.parallel_rows(rows, length, 32768, [&](int64_t first, int64_t end) {
      const T* pointers[kChunk];
      const Scratch room(static_cast<size_t>(kRowsUnderWay * pitch) * sizeof(float));
      Walk walk(x.shape, steps, bias ? first : 0);
      for (int64_t row = first; row < end; row += kChunk) {
        const int64_t count = std::min(kChunk, end - row);
        for (int64_t i = 0; bias && i < count; ++i, walk.next()) pointers[i] = bias.data + walk.offset();
        rows_({x.data + row * length, bias ? pointers : nullptr, bias && steps.back() ? 1 : 0, y + row * length,
               reinterpret_cast<float*>(room.data()), pitch, count, length, scale_, stream, out_scale_, out_zero_});
      }
    });
  }

 private:
  static auto kernel() {
    if constexpr (std::is_same_v<Out, uint8_t>) return best_softmax_table().to_uint8;
    else if constexpr (std::is_same_v<Out, int8_t>) return best_softmax_table().to_int8;
    else if constexpr (std::is_same_v<T, float>) return best_softmax_table().float32;
    else return best_softmax_table().float16;
  }

  // Returns the strides of bias along the axes of x: 0 where it is broadcast.
  static Shape steps_of(const Tensor<T>& bias, const Shape& shape) {
    const size_t missing = shape.size() - std::min(shape.size(), bias.shape.size());
    Shape steps(shape.size(), 0);
    bool fits = bias.shape.size() <= shape.size();
    int64_t step = 1;
    for (size_t axis = bias.shape.size(); fits && axis-- > 0;) {
      const int64_t have = bias.shape[axis];
      fits = have == 1 || have == shape[axis + missing];
      steps[axis + missing] = have == 1 ? 0 : step;
      step *= have;
    }
    if (!fits)
      throw Error("input 'bias' of shape " + to_string(bias.shape) + " does not broadcast to input 'x' of shape " + to_string(shape));
    return steps;
  }

  float scale_, out_scale_, out_zero_;
  void (*rows_)(const SoftmaxRows<T, Out>&);
};

}  // namespace

void register_masked_softmax(Library& library) {
  library.add<MaskedSoftmax<float>>();
  library.add<MaskedSoftmax<Half>>();
  library.add<MaskedSoftmax<float, uint8_t>>();
  library.add<MaskedSoftmax<float, int8_t>>();
}

}  // namespace headway
