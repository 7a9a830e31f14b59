// Packing of int8 weights for products of bytes that are added up in 16 bits; see `Panel`.
#pragma once

#include <vector>

#include "quantized_linear.h"

namespace headway {

struct BytePairs {
  std::vector<int8_t> memory;
  std::vector<int32_t> words;
  std::vector<Panel> panels;   // that point into both
  std::vector<int32_t> start;  // of each column's sum
};

// `values` are panels one after the other, each of `panel` columns, the last of what `columns` leaves, `depth` inputs deep in
// groups of four; `step` numbers of a row are together, see `Panel`.
BytePairs pair_bytes(const std::vector<int8_t>& values, int64_t depth, int64_t columns, int64_t panel, int step);

}  // namespace headway
