// Packs the tokens of several sequences back to back without padding, and unpacks them. Only memory is moved.

#include <algorithm>
#include <functional>

#include "op.h"
#include "register.h"
#include "sequences.h"

namespace headway {
namespace {

constexpr int64_t kWorth = 1 << 18;  // bytes from which another thread pays off

// Returns where the tokens of each row start among the packed ones: [batch + 1]. A mask is [batch, sequence]; 0 is padding.
std::vector<int32_t> ends_of(const Tensor<int64_t>& mask, bool ordered) {
  if (mask.shape.size() != 2) throw Error("input 'mask' has shape " + to_string(mask.shape) + ", [batch, sequence] is needed");
  const int64_t batch = mask.shape[0], positions = mask.shape[1];
  if (batch * positions > INT32_MAX) throw Error("input 'mask' of shape " + to_string(mask.shape) + " has too many tokens");
  std::vector<int32_t> ends(static_cast<size_t>(batch) + 1, 0);
  for (int64_t row = 0; row < batch; ++row) {
    const int64_t* kept = mask.data + row * positions;
    int32_t count = 0;
    for (int64_t i = 0; i < positions; ++i) {
      if (ordered && kept[i] != 0 && count != i)
        throw Error("input 'mask' has padding before a token in row " + std::to_string(row) +
                    ": this graph needs padding on the right; pad there, or export the model with stock kernels");
      count += kept[i] != 0;
    }
    ends[static_cast<size_t>(row) + 1] = ends[static_cast<size_t>(row)] + count;
  }
  return ends;
}

// Calls copy(padded, packed, tokens) for each run of tokens of a row; `padded` and `packed` count tokens.
template <class Copy>
void for_runs(const Tensor<int64_t>& mask, const std::vector<int32_t>& ends, int64_t row, const Copy& copy) {
  const int64_t positions = mask.shape[1];
  const int64_t* kept = mask.data + row * positions;
  int64_t packed = ends[static_cast<size_t>(row)];
  for (int64_t i = 0; i < positions;) {
    if (kept[i] == 0) {
      ++i;
      continue;
    }
    int64_t end = i;
    while (end < positions && kept[end] != 0) ++end;
    copy(row * positions + i, packed, end - i);
    packed += end - i;
    i = end;
  }
}

void for_rows(const Context& context, int64_t rows, int64_t bytes, const std::function<void(int64_t)>& body) {
  if (bytes < 2 * kWorth) {
    for (int64_t row = 0; row < rows; ++row) body(row);
  } else {
    context.parallel(static_cast<size_t>(rows), [&](size_t row) { body(static_cast<int64_t>(row)); });
  }
}

// x [batch, sequence, ...], mask [batch, sequence] → packed [tokens, ...], cu_seqlens [batch + 1].
// Attribute `ordered`: 1 where padding before a token must be refused, because later ops depend on positions.
template <class T>
class RemovePadding {
 public:
  static constexpr const char* kName = "RemovePadding";
  static constexpr Port kInputs[] = {{"x", type_of<T>()}, {"mask", ort::Type::kInt64}};
  static constexpr Port kOutputs[] = {{"packed", type_of<T>()}, {"cu_seqlens", ort::Type::kInt32}};

  explicit RemovePadding(const Node& node) : ordered_(node.integer("ordered", 0) != 0) {}

  void compute(const Context& context) const {
    const auto x = context.input<T>(0);
    const auto mask = context.input<int64_t>(1);
    const auto ends = ends_of(mask, ordered_);
    if (x.shape.size() < 2 || !std::equal(mask.shape.begin(), mask.shape.end(), x.shape.begin()))
      throw Error("input 'x' of shape " + to_string(x.shape) + " does not begin like input 'mask' of shape " + to_string(mask.shape));
    Shape shape(x.shape.begin() + 1, x.shape.end());
    shape[0] = ends.back();
    const int64_t width = product(x.shape, 2);
    T* packed = context.output<T>(0, shape);
    std::copy(ends.begin(), ends.end(), context.output<int32_t>(1, {static_cast<int64_t>(ends.size())}));
    for_rows(context, mask.shape[0], product(shape) * static_cast<int64_t>(sizeof(T)), [&](int64_t row) {
      for_runs(mask, ends, row, [&](int64_t from, int64_t to, int64_t tokens) {
        std::copy_n(x.data + from * width, tokens * width, packed + to * width);
      });
    });
  }

 private:
  bool ordered_;
};

// packed [tokens, ...], mask [batch, sequence] → x [batch, sequence, ...], zeros where there is padding.
template <class T>
class RestorePadding {
 public:
  static constexpr const char* kName = "RestorePadding";
  static constexpr Port kInputs[] = {{"packed", type_of<T>()}, {"mask", ort::Type::kInt64}};
  static constexpr Port kOutputs[] = {{"x", type_of<T>()}};

  explicit RestorePadding(const Node&) {}

  void compute(const Context& context) const {
    const auto packed = context.input<T>(0);
    const auto mask = context.input<int64_t>(1);
    const auto ends = ends_of(mask, false);
    if (packed.shape.empty() || packed.shape[0] != ends.back())
      throw Error("input 'packed' has shape " + to_string(packed.shape) + ", input 'mask' keeps " + std::to_string(ends.back()) +
                  " tokens");
    Shape shape = mask.shape;
    shape.insert(shape.end(), packed.shape.begin() + 1, packed.shape.end());
    const int64_t width = product(packed.shape, 1), positions = mask.shape[1];
    T* x = context.output<T>(0, shape);
    for_rows(context, mask.shape[0], product(shape) * static_cast<int64_t>(sizeof(T)), [&](int64_t row) {
      int64_t done = row * positions;
      for_runs(mask, ends, row, [&](int64_t to, int64_t from, int64_t tokens) {
        std::fill(x + done * width, x + to * width, T{});
        std::copy_n(packed.data + from * width, tokens * width, x + to * width);
        done = to + tokens;
      });
      std::fill(x + done * width, x + (row + 1) * positions * width, T{});
    });
  }
};

// packed [tokens, width], cu_seqlens [sequences + 1] → y [sequences, width]: the first token of each, or the sum of its tokens
// (attribute `mode`: "first" or "sum"). The sum of no tokens is zero; a sequence without a first one is an error.
class PoolTokens {
 public:
  static constexpr const char* kName = "PoolTokens";
  static constexpr Port kInputs[] = {{"packed", ort::Type::kFloat}, {"cu_seqlens", ort::Type::kInt32}};
  static constexpr Port kOutputs[] = {{"y", ort::Type::kFloat}};

  explicit PoolTokens(const Node& node) {
    const std::string mode = node.text("mode", "");
    if (mode != "first" && mode != "sum") throw Error("attribute 'mode' is '" + mode + "', first and sum are known");
    sum_ = mode == "sum";
  }

  void compute(const Context& context) const {
    const auto packed = context.input<float>(0);
    const auto ends = context.input<int32_t>(1);
    if (packed.shape.size() != 2) throw Error("input 'packed' has shape " + to_string(packed.shape) + ", [tokens, width] is needed");
    const auto sequences = sequences_of(ends, packed.shape[0], "packed");
    const int64_t width = packed.shape[1];
    float* y = context.output<float>(0, {static_cast<int64_t>(sequences.size()), width});
    for (const Sequence& one : sequences) {
      const float* from = packed.data + one.first * width;
      if (one.length == 0 && !sum_)
        throw Error("sequence " + std::to_string(&one - sequences.data()) + " has no token, and its first one is needed");
      if (one.length == 0) std::fill_n(y, width, 0.0f);
      else std::copy_n(from, width, y);
      for (int64_t token = 1; sum_ && token < one.length; ++token)
        for (int64_t i = 0; i < width; ++i) y[i] += from[token * width + i];
      y += width;
    }
  }

 private:
  bool sum_ = false;
};

}  // namespace

void register_padding(Library& library) {
  library.add<RemovePadding<float>>();
  library.add<RemovePadding<Half>>();
  library.add<RemovePadding<int8_t>>();
  library.add<RemovePadding<uint8_t>>();
  library.add<RestorePadding<float>>();
  library.add<RestorePadding<Half>>();
  library.add<RestorePadding<int8_t>>();
  library.add<RestorePadding<uint8_t>>();
  library.add<PoolTokens>();
}

}  // namespace headway
