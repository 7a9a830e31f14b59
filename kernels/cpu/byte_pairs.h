// Packs int8 weights for int8 dot products that are summed in 16 bits; see `Panel`.
#pragma once

#include <vector>

#include "quantized_linear.h"

namespace headway {

struct BytePairs {
  std::vector<int8_t> memory;
  std::vector<int32_t> words;
  std::vector<Panel> panels;   // that point into `values` and `words`
  std::vector<int32_t> start;  // initial value of each column's sum
};

// `values` are panels one after the other, each of `panel` columns (the last of the remaining ones), with `depth` inputs in
// groups of four; `step` elements of a row lie together, see `Panel`.
BytePairs pair_bytes(const std::vector<int8_t>& values, int64_t depth, int64_t columns, int64_t panel, int step);

}  // namespace headway
