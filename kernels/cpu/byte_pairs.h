// Packing of int8 weights for products of bytes that are added up in 16 bits; see `Panel`.
#pragma once

#include <vector>

#include "quantized_linear.h"

namespace headway {

// Panels whose memory they own.
struct BytePairs {
  std::vector<int8_t> memory;
  std::vector<int32_t> words;
  std::vector<Panel> panels;
};

// `values` are panels one after the other, all but the last of `panel` columns, in groups of four inputs, `depth` inputs deep; the
// last has what `columns` leaves. A row has its numbers in steps of `sizes`.
BytePairs pair_bytes(const std::vector<int8_t>& values, int64_t depth, int64_t columns, int64_t panel, int sizes);

}  // namespace headway
