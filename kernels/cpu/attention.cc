#include "attention.h"

#include <algorithm>
#include <cmath>

#include "op.h"
#include "register.h"
#include "sequences.h"

namespace headway {
namespace {

constexpr int64_t kChunk = 128;    // least queries of one head per thread, where there are as many
constexpr double kWorth = 2.0e6;   // multiplications from which another thread pays off
constexpr int64_t kMostTasks = 256;

// Attributes of all attention ops: `heads`; `scale`, by default 1 / sqrt(head_dim); `causal` (0 or 1); `window`, the largest
// distance of a key that a query sees in either direction, -1 for any.
struct Options {
  explicit Options(const Node& node)
      : heads(node.integer("heads", 0)),
        scale(node.number("scale", NAN)),
        causal(node.integer("causal", 0) != 0),
        window(node.integer("window", -1)) {
    if (heads < 1) throw Error("attribute 'heads' is missing or below 1");
  }
  int64_t heads;
  float scale;
  bool causal;
  int64_t window;
};

template <class T>
void check_same(const Tensor<T>& q, const Tensor<T>& other) {
  if (other.shape != q.shape)
    throw Error(std::string("input '") + other.name + "' has shape " + to_string(other.shape) + ", input 'q' has " + to_string(q.shape));
}

inline void check_bias(const Tensor<float>& bias, int64_t heads, int64_t longest) {
  if (!bias) return;
  const Shape& shape = bias.shape;
  const size_t rank = shape.size();
  const bool square = rank >= 3 && shape[rank - 1] >= longest && shape[rank - 2] >= longest;
  if (!square || (shape[rank - 3] != 1 && shape[rank - 3] != heads) || (rank == 4 && shape[0] != 1) || rank > 4)
    throw Error("input 'bias' of shape " + to_string(shape) + " is not [heads or 1, positions, positions] for " +
                std::to_string(heads) + " heads and sequences of up to " + std::to_string(longest) + " tokens");
}

// Every head of every sequence, in chunks of queries, in tasks of about equal work. No result depends on where a task ends.
template <class In, class Out>
void attend(const Context& context, void (*kernel)(const Queries<In, Out>&), const Options& options, Queries<In, Out> all,
            const std::vector<Sequence>& sequences, const Tensor<float>& bias) {
  struct Unit {
    Sequence sequence;
    int64_t head, first, count;
    double until;  // work up to and including this one
  };
  std::vector<Unit> units;
  double work = 0;
  for (const Sequence& sequence : sequences)
    for (int64_t head = 0; head < options.heads; ++head)
      for (int64_t first = 0; first < sequence.length; first += kChunk) {
        const int64_t count = std::min(kChunk, sequence.length - first);
        work += 2.0 * static_cast<double>(count) * static_cast<double>(sequence.length) * all.head_dim;
        units.push_back({sequence, head, first, count, work});
      }
  const int64_t tasks = std::clamp<int64_t>(static_cast<int64_t>(work / kWorth), 1, kMostTasks);
  auto unit_at = [&](double done) {
    return std::lower_bound(units.begin(), units.end(), done, [](const Unit& u, double d) { return u.until <= d; }) - units.begin();
  };
  context.parallel(static_cast<size_t>(tasks), [&](size_t task) {
    const int64_t begin = task == 0 ? 0 : unit_at(work * static_cast<double>(task) / static_cast<double>(tasks));
    const int64_t end = static_cast<int64_t>(task) + 1 == tasks
                            ? static_cast<int64_t>(units.size())
                            : unit_at(work * static_cast<double>(task + 1) / static_cast<double>(tasks));
    for (int64_t i = begin; i < end; ++i) {
      const Unit& unit = units[static_cast<size_t>(i)];
      Queries<In, Out> one = all;
      const int64_t column = unit.head * all.head_dim;
      one.q += unit.sequence.first * all.pitch_q + column;
      one.k += unit.sequence.first * all.pitch_k + column;
      one.v += unit.sequence.first * all.pitch_v + column;
      one.y += unit.sequence.first * all.pitch_y + column;
      one.length = unit.sequence.length;
      one.first = unit.first;
      one.count = unit.count;
      if (bias) {
        const size_t rank = bias.shape.size();
        one.pitch_bias = bias.shape[rank - 1];
        one.bias = bias.data + (bias.shape[rank - 3] == 1 ? 0 : unit.head * bias.shape[rank - 2] * one.pitch_bias);
      }
      kernel(one);
    }
  });
}

template <class In, class Out>
Queries<In, Out> queries_of(const Tensor<In>& q, const Tensor<In>& k, const Tensor<In>& v, Out* y, const Options& options) {
  const int64_t hidden = q.shape.back();
  if (hidden % options.heads != 0)
    throw Error("input 'q' of shape " + to_string(q.shape) + " does not divide into " + std::to_string(options.heads) + " heads");
  const int64_t head_dim = hidden / options.heads;
  if (head_dim < 1 || head_dim > kLongestHead)
    throw Error("input 'q' of shape " + to_string(q.shape) + " has a head_dim of " + std::to_string(head_dim) + ": 1 to " +
                std::to_string(kLongestHead) + " are supported");
  Queries<In, Out> all{};
  all.q = q.data, all.k = k.data, all.v = v.data, all.y = y;
  all.pitch_q = all.pitch_k = all.pitch_v = all.pitch_y = hidden;
  all.head_dim = static_cast<int>(head_dim);
  all.scale = !std::isnan(options.scale) ? options.scale : 1.0f / std::sqrt(static_cast<float>(head_dim));
  all.causal = options.causal;
  all.window = options.window;
  return all;
}

// The scale and zero point of an int8 or uint8 tensor, attributes `<name>_scale` and `<name>_zero_point`; floats have none.
template <class T>
Quantization quantization_of(const Node& node, const std::string& name) {
  if constexpr (sizeof(T) > 1) return {};
  const Quantization found{node.number((name + "_scale").c_str(), NAN),
                           static_cast<float>(node.integer((name + "_zero_point").c_str(), 0))};
  if (!(found.scale > 0.0f) || std::isinf(found.scale)) throw Error("attribute '" + name + "_scale' is missing or not above 0");
  return found;
}

template <class In, class Out>
auto kernel_between() {
  const AttentionTable& table = best_attention_table();
  if constexpr (std::is_same_v<Out, float>) return table.float32;
  else if constexpr (std::is_same_v<Out, Half>) return table.float16;
  else if constexpr (std::is_same_v<In, uint8_t>) return table.uint8;
  else if constexpr (std::is_same_v<In, int8_t>) return table.int8;
  else if constexpr (std::is_same_v<Out, uint8_t>) return table.float_to_uint8;
  else return table.float_to_int8;
}

// What the ops share. They differ in how they get the positions of the sequences.
template <class In, class Out>
class Attention {
 public:
  explicit Attention(const Node& node)
      : options_(node),
        q_(quantization_of<In>(node, "q")),
        k_(quantization_of<In>(node, "k")),
        v_(quantization_of<In>(node, "v")),
        y_(quantization_of<Out>(node, "y")),
        kernel_(kernel_between<In, Out>()) {}

 protected:
  // Reads q, k and v, which have `rank` axes and the same shape; `axes` describes it.
  struct Inputs {
    Tensor<In> q, k, v;
  };
  Inputs inputs_of(const Context& context, size_t rank, const char* axes) const {
    Inputs all{context.input<In>(0), context.input<In>(1), context.input<In>(2)};
    if (all.q.shape.size() != rank)
      throw Error("input 'q' has shape " + to_string(all.q.shape) + ", " + axes + " is needed");
    check_same(all.q, all.k);
    check_same(all.q, all.v);
    return all;
  }

  // Input 4 is the bias, for positions up to `longest`. Returns y; what lies outside all sequences is not written.
  Out* run(const Context& context, const Inputs& inputs, const std::vector<Sequence>& sequences, int64_t longest) const {
    const auto bias = context.input<float>(4);
    check_bias(bias, options_.heads, longest);
    auto all = queries_of<In, Out>(inputs.q, inputs.k, inputs.v, context.output<Out>(0, inputs.q.shape), options_);
    all.in_q = q_, all.in_k = k_, all.in_v = v_, all.out = y_;
    attend(context, kernel_, options_, all, sequences, bias);
    return all.y;
  }

 private:
  Options options_;
  Quantization q_, k_, v_, y_;
  void (*kernel_)(const Queries<In, Out>&);
};

template <class In, class Out>
constexpr const char* packed_name() {
  if constexpr (sizeof(In) == 1) return "QuantizedPackedAttention";
  else if constexpr (std::is_same_v<Out, uint8_t>) return "PackedAttentionToUint8";
  else if constexpr (std::is_same_v<Out, int8_t>) return "PackedAttentionToInt8";
  else return "PackedAttention";
}

// q, k, v [tokens, heads * head_dim], cu_seqlens [sequences + 1], bias [heads or 1, positions, positions] → y like q. The ops that
// give int8 or uint8 quantize in the same pass; for the op that takes them, q, k and v have scales as well.
template <class In, class Out = In>
class PackedAttention : Attention<In, Out> {
 public:
  static constexpr const char* kName = packed_name<In, Out>();
  static constexpr Port kInputs[] = {{"q", type_of<In>()},
                                     {"k", type_of<In>()},
                                     {"v", type_of<In>()},
                                     {"cu_seqlens", ort::Type::kInt32},
                                     {"bias", ort::Type::kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{"y", type_of<Out>()}};

  using Attention<In, Out>::Attention;

  void compute(const Context& context) const {
    const auto inputs = this->inputs_of(context, 2, "[tokens, heads * head_dim]");
    const auto sequences = sequences_of(context.input<int32_t>(3), inputs.q.shape[0], "q");
    int64_t longest = 0;
    for (const Sequence& one : sequences) longest = std::max(longest, one.length);
    this->run(context, inputs, sequences, longest);
  }
};

// q, k, v [batch, sequence, heads * head_dim], lengths [batch] (by default the whole sequence), bias as above → y like q,
// zeros from each row's length on.
template <class T>
class PaddedAttention : Attention<T, T> {
 public:
  static constexpr const char* kName = "PaddedAttention";
  static constexpr Port kInputs[] = {{"q", type_of<T>()},
                                     {"k", type_of<T>()},
                                     {"v", type_of<T>()},
                                     {"lengths", ort::Type::kInt32, kOptional},
                                     {"bias", ort::Type::kFloat, kOptional}};
  static constexpr Port kOutputs[] = {{"y", type_of<T>()}};

  using Attention<T, T>::Attention;

  void compute(const Context& context) const {
    const auto inputs = this->inputs_of(context, 3, "[batch, sequence, heads * head_dim]");
    const auto lengths = context.input<int32_t>(3);
    const int64_t batch = inputs.q.shape[0], positions = inputs.q.shape[1], hidden = inputs.q.shape[2];
    if (lengths && lengths.shape != Shape{batch})
      throw Error("input 'lengths' has shape " + to_string(lengths.shape) + ", [" + std::to_string(batch) + "] is needed");
    std::vector<Sequence> sequences;
    for (int64_t row = 0; row < batch; ++row) {
      const int64_t length = lengths ? lengths.data[row] : positions;
      if (length < 0 || length > positions)
        throw Error("input 'lengths' has " + std::to_string(length) + " in row " + std::to_string(row) + ", 0 to " +
                    std::to_string(positions) + " are possible");
      sequences.push_back({row * positions, length});
    }
    T* y = this->run(context, inputs, sequences, positions);
    for (const Sequence& one : sequences)
      std::fill(y + (one.first + one.length) * hidden, y + (one.first + positions) * hidden, T{});
  }
};

}  // namespace

void register_attention(Library& library) {
  library.add<PackedAttention<float, uint8_t>>();
  library.add<PackedAttention<float, int8_t>>();
  library.add<PackedAttention<uint8_t>>();
  library.add<PackedAttention<int8_t>>();
  library.add<PackedAttention<float>>();
  library.add<PackedAttention<Half>>();
  library.add<PaddedAttention<float>>();
  library.add<PaddedAttention<Half>>();
}

}  // namespace headway
