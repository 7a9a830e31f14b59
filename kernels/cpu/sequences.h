// Reads packed sequences from `cu_seqlens`.
#pragma once

#include "op.h"

namespace headway {

struct Sequence {
  int64_t first, length;  // in tokens
};

// Checks cu_seqlens [sequences + 1] against the number of tokens of the input called `of`.
inline std::vector<Sequence> sequences_of(const Tensor<int32_t>& ends, int64_t tokens, const char* of) {
  if (ends.shape.size() != 1 || ends.shape[0] < 1)
    throw Error("input 'cu_seqlens' has shape " + to_string(ends.shape) + ", [sequences + 1] is needed");
  const int64_t count = ends.shape[0] - 1;
  if (ends.data[0] != 0) throw Error("input 'cu_seqlens' starts with " + std::to_string(ends.data[0]) + " instead of 0");
  std::vector<Sequence> sequences;
  for (int64_t i = 0; i < count; ++i) {
    if (ends.data[i + 1] < ends.data[i])
      throw Error("input 'cu_seqlens' falls from " + std::to_string(ends.data[i]) + " to " + std::to_string(ends.data[i + 1]) +
                  " at element " + std::to_string(i + 1));
    sequences.push_back({ends.data[i], static_cast<int64_t>(ends.data[i + 1]) - ends.data[i]});
  }
  if (ends.data[count] != tokens)
    throw Error("input 'cu_seqlens' ends with " + std::to_string(ends.data[count]) + ", input '" + of + "' has " +
                std::to_string(tokens) + " tokens");
  return sequences;
}

}  // namespace headway
