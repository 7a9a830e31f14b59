// Scratch memory of calls, and how the rows and columns of a layer are shared out among threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "op.h"

namespace headway {

// Scratch memory of a call, kept for the next call of any layer: it is still in the cache then.
class Scratch {
 public:
  explicit Scratch(size_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  char* data() const {  // aligned to a cache line
    return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory_.data()) + 63) & ~uintptr_t{63});
  }

 private:
  std::vector<char> memory_;
};

// Returns the least multiple of `multiple` that is not below `value`.
constexpr int64_t up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

constexpr int64_t kWorthSharing = 1 << 21;  // multiplications below which waking other threads takes longer
constexpr int64_t kManyBlocks = 8;          // blocks of rows from which threads need not share the columns as well

// Calls `prepare(first, count)` for all rows, a few at a time, on the runtime's threads.
template <class Prepare>
void prepare_rows(const Context& context, int64_t rows, const Prepare& prepare) {
  constexpr int64_t kRows = 12;
  context.parallel(static_cast<size_t>((rows + kRows - 1) / kRows), [&](size_t i) {
    const int64_t first = static_cast<int64_t>(i) * kRows;
    prepare(first, std::min(kRows, rows - first));
  });
}

// Calls `multiply(first, count, first_panel, end_panel)` for blocks of rows and parts of the panels of columns on the runtime's
// threads: with few rows, threads share the columns of a block as well.
template <class Multiply>
void share_columns(const Context& context, int64_t rows, int64_t block, int64_t panels, const Multiply& multiply) {
  const int64_t blocks = (rows + block - 1) / block, parts = std::min<int64_t>(panels, 8);
  context.parallel(static_cast<size_t>(blocks * parts), [&](size_t i) {
    const int64_t first = static_cast<int64_t>(i) / parts * block, part = static_cast<int64_t>(i) % parts;
    multiply(first, std::min(block, rows - first), part * panels / parts, (part + 1) * panels / parts);
  });
}

}  // namespace headway
