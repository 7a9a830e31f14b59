// The parts of an op: named inputs and outputs, attributes, errors that name the op and the tensor, and parallel loops.
//
// An op is a class with `kName`, `kInputs`, `kOutputs`, a constructor that reads attributes from `Node` and `compute(Context&)`.
// All may throw, also inside `Context::parallel`: an `Error` or a lack of memory becomes a status of the runtime.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <iterator>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "isa.h"
#include "ort_api.h"

namespace headway {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class T>
constexpr ort::Type type_of() {
  if constexpr (std::is_same_v<T, float>) return ort::Type::kFloat;
  else if constexpr (std::is_same_v<T, Half>) return ort::Type::kFloat16;
  else if constexpr (std::is_same_v<T, Bfloat16>) return ort::Type::kBfloat16;
  else if constexpr (std::is_same_v<T, uint8_t>) return ort::Type::kUint8;
  else if constexpr (std::is_same_v<T, int8_t>) return ort::Type::kInt8;
  else if constexpr (std::is_same_v<T, int32_t>) return ort::Type::kInt32;
  else { static_assert(std::is_same_v<T, int64_t>); return ort::Type::kInt64; }
}

struct Port {
  const char* name;
  ort::Type type;
  ort::Presence presence = ort::Presence::kRequired;
};
constexpr ort::Presence kOptional = ort::Presence::kOptional;

using Shape = std::vector<int64_t>;

inline std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

inline int64_t product(const Shape& shape, size_t from = 0) {
  int64_t total = 1;
  for (size_t i = from; i < shape.size(); ++i) total *= shape[i];
  return total;
}

// A tensor, or none (`data` null).
template <class T>
struct Tensor {
  const T* data = nullptr;
  Shape shape;
  const char* name = "";
  explicit operator bool() const { return data != nullptr; }
};

inline void check(const ort::Api* api, ort::Status* status) {
  if (status == nullptr) return;
  ort::release_status(api, status);
  throw Error("the runtime refused a call");
}

inline Shape shape_of(const ort::Api* api, const ort::Value* value, ort::Type* type) {
  ort::TensorInfo* info = nullptr;
  check(api, ort::tensor_info(api, value, &info));
  size_t rank = 0;
  ort::Status* status = ort::rank(api, info, &rank);
  Shape shape(rank);
  if (status == nullptr) status = ort::dimensions(api, info, shape.data(), rank);
  if (status == nullptr) status = ort::element_type(api, info, type);
  ort::release_tensor_info(api, info);
  check(api, status);
  return shape;
}

template <class T>
Tensor<T> tensor_of(const ort::Api* api, const ort::Value* value, const Port& port) {
  ort::Type type{};
  Tensor<T> tensor{nullptr, shape_of(api, value, &type), port.name};
  if (type != type_of<T>()) throw Error(std::string("input '") + port.name + "' has another element type than declared");
  void* data = nullptr;
  check(api, ort::tensor_data(api, const_cast<ort::Value*>(value), &data));
  static const T kNothing{};
  tensor.data = data != nullptr ? static_cast<const T*>(data) : &kNothing;  // a tensor without elements may have no address
  return tensor;
}

// A node at the time when its kernel is created.
class Node {
 public:
  Node(const ort::Api* api, const ort::KernelInfo* info, const Port* inputs) : api_(api), info_(info), inputs_(inputs) {}

  float number(const char* name, float otherwise) const {
    float value = otherwise;
    return found(ort::attribute_float(api_, info_, name, &value)) ? value : otherwise;
  }
  int64_t integer(const char* name, int64_t otherwise) const {
    int64_t value = otherwise;
    return found(ort::attribute_int(api_, info_, name, &value)) ? value : otherwise;
  }
  std::string text(const char* name, const char* otherwise) const {
    size_t size = 0;
    if (!found(ort::attribute_string(api_, info_, name, nullptr, &size))) return otherwise;
    std::string value(size, '\0');
    check(api_, ort::attribute_string(api_, info_, name, value.data(), &size));
    value.resize(size - 1);
    return value;
  }
  // Returns the tensor of an input that is an initializer, for weights that are packed once; none where the input is computed.
  template <class T>
  Tensor<T> constant(size_t index) const {
    int is_constant = 0;
    const ort::Value* value = nullptr;
    check(api_, ort::constant_input(api_, info_, index, &is_constant, &value));
    return is_constant && value != nullptr ? tensor_of<T>(api_, value, inputs_[index]) : Tensor<T>{};
  }

 private:
  bool found(ort::Status* status) const {
    if (status != nullptr) ort::release_status(api_, status);
    return status == nullptr;
  }

  const ort::Api* api_;
  const ort::KernelInfo* info_;
  const Port* inputs_;
};

// One call of a kernel.
class Context {
 public:
  Context(const ort::Api* api, ort::KernelContext* context, const Port* inputs) : api_(api), context_(context), inputs_(inputs) {
    check(api_, ort::input_count(api_, context_, &count_));
  }

  template <class T>
  Tensor<T> input(size_t index) const {
    const ort::Value* value = nullptr;
    if (index < count_) check(api_, ort::input(api_, context_, index, &value));
    if (value == nullptr) {
      if (inputs_[index].presence == kOptional) return {nullptr, {}, inputs_[index].name};
      throw Error(std::string("input '") + inputs_[index].name + "' is missing");
    }
    return tensor_of<T>(api_, value, inputs_[index]);
  }

  // Returns null for an optional output that is not used.
  template <class T>
  T* output(size_t index, const Shape& shape) const {
    size_t count = 0;
    check(api_, ort::output_count(api_, context_, &count));
    if (index >= count) return nullptr;
    ort::Value* value = nullptr;
    check(api_, ort::output(api_, context_, index, shape.data(), shape.size(), &value));
    void* data = nullptr;
    if (value != nullptr) check(api_, ort::tensor_data(api_, value, &data));
    return static_cast<T*>(data);
  }

  // Calls `body(i)` for 0 <= i < total on the runtime's own threads. Calls must not depend on each other. An exception, as where
  // memory for scratch is missing, must not leave the runtime's thread: the first one is thrown again here, the rest is skipped.
  template <class Body>
  void parallel(size_t total, const Body& body) const {
    if (total <= 1) {
      if (total == 1) body(0);
      return;
    }
    struct Shared {
      const Body& body;
      std::atomic<bool> failed{false};
      std::exception_ptr error;
    } shared{body, {}, {}};
    auto call = [](void* data, size_t i) noexcept {
      auto& all = *static_cast<Shared*>(data);
      if (all.failed.load(std::memory_order_relaxed)) return;
      try {
        all.body(i);
      } catch (...) {
        if (!all.failed.exchange(true)) all.error = std::current_exception();
      }
    };
    check(api_, ort::parallel_for(api_, context_, call, total, 0, &shared));
    if (shared.error) std::rethrow_exception(shared.error);
  }

  // Calls `body(first, end)` for ranges of rows on the runtime's threads, with about `share` elements in each range.
  template <class Body>
  void parallel_rows(int64_t rows, int64_t width, int64_t share, const Body& body) const {
    const int64_t each = width < share ? share / width : 1;
    parallel(static_cast<size_t>((rows + each - 1) / each), [&](size_t part) {
      const int64_t first = static_cast<int64_t>(part) * each;
      body(first, rows - first < each ? rows : first + each);
    });
  }

 private:
  const ort::Api* api_;
  ort::KernelContext* context_;
  const Port* inputs_;
  size_t count_ = 0;
};

// Adapts an op to the runtime's table of callbacks.
template <class Op>
struct Adapter : ort::CustomOp {
  struct Kernel {
    const ort::Api* api;
    Op op;
  };

  Adapter() : ort::CustomOp{} {
    version = ort::kVersion;
    name = [](const ort::CustomOp*) { return Op::kName; };
    execution_provider = [](const ort::CustomOp*) -> const char* { return nullptr; };
    input_type = [](const ort::CustomOp*, size_t i) { return Op::kInputs[i].type; };
    input_count = [](const ort::CustomOp*) { return std::size(Op::kInputs); };
    input_presence = [](const ort::CustomOp*, size_t i) { return Op::kInputs[i].presence; };
    output_type = [](const ort::CustomOp*, size_t i) { return Op::kOutputs[i].type; };
    output_count = [](const ort::CustomOp*) { return std::size(Op::kOutputs); };
    output_presence = [](const ort::CustomOp*, size_t i) { return Op::kOutputs[i].presence; };
    input_memory = [](const ort::CustomOp*, size_t) { return 0; };
    first_version = [](const ort::CustomOp*) { return 1; };
    last_version = [](const ort::CustomOp*) { return INT32_MAX; };
    create_kernel_v2 = [](const ort::CustomOp*, const ort::Api* api, const ort::KernelInfo* info, void** kernel) {
      return guarded(api, [&] { *kernel = new Kernel{api, Op(Node(api, info, Op::kInputs))}; });
    };
    compute_v2 = [](void* kernel, ort::KernelContext* context) {
      auto* made = static_cast<Kernel*>(kernel);
      return guarded(made->api, [&] {
        Context call(made->api, context, Op::kInputs);
        made->op.compute(call);
      });
    };
    destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }

  template <class Body>
  static ort::Status* guarded(const ort::Api* api, const Body& body) noexcept {
    try {
      body();
      return nullptr;
    } catch (const std::bad_alloc&) {
      return ort::create_status(api, ort::ErrorCode::kFail, "headway: not enough memory");
    } catch (const std::exception& error) {
      const std::string text = std::string("headway.") + Op::kName + ": " + error.what();
      return ort::create_status(api, ort::ErrorCode::kInvalidArgument, text.c_str());
    }
  }
};

}  // namespace headway
