// Matmuls of bfloat16 by AMX: tiles of 16 rows of 64 bytes. Only `bfloat16_linear.bf16.simd.cc` includes this.
#pragma once

#include "bfloat16_linear.h"
#include "simd.h"

namespace headway::HEADWAY_ISA {
namespace {

constexpr int kSide = 16;                 // rows of a tile, and its columns in float32
constexpr int kTileDepth = 32;            // inputs of a step: a row of a tile holds so many bfloat16
constexpr int kPanelColumns = 2 * kSide;  // two tiles of weights, and two of rows, make four tiles of sums
constexpr int kTileRows = 2 * kSide;
constexpr int kStepBytes = kPanelColumns * kTileDepth * 2, kStepLines = kStepBytes / 64;  // of weights
constexpr int kStepsAhead = 16;           // that weights are fetched where they are read for a few rows alone
constexpr int kMostRows = 256;            // of a block
constexpr int kMostSteps = 16;            // of weights that stay in the L1 cache for all rows of a block: 32 KB

// The layout that the processor is told. Tiles 0 to 3 are sums, 4 and 5 rows of x, 6 and 7 weights.
struct TileLayout {
  uint8_t palette, start, unused[14];
  uint16_t bytes[16];
  uint8_t rows[16];
};

HEADWAY_INLINE void lay_out_tiles(int upper, int lower) {
  alignas(64) TileLayout layout = {};
  layout.palette = 1;
  for (int i = 0; i < 8; ++i) {
    layout.bytes[i] = 64;
    const bool rows_below = i == 2 || i == 3 || i == 5;
    layout.rows[i] = static_cast<uint8_t>(i >= 6 ? kSide : rows_below ? lower : upper);
  }
  asm volatile("" : : "r"(&layout) : "memory");  // some compilers take the instruction to read 8 of the 64 bytes
  _tile_loadconfig(&layout);
}

// Adds the products of some steps to sums [rows][kPanelColumns], and calls `meanwhile()` at each, whose work on vectors runs
// beside the tiles'. `fresh`: sums begin at zero. `both`: more than 16 rows. `first`: the weights were not read yet.
template <class Meanwhile>
HEADWAY_INLINE void add_steps(const char* x, int64_t pitch, const char* w, int64_t steps, float* sums, bool fresh, bool both, bool first,
                              const Meanwhile& meanwhile) {
  constexpr int kSumPitch = kPanelColumns * 4;
  float* const below = sums + kSide * kPanelColumns;
  const char* const x_below = x + kSide * pitch;
  if (fresh) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, kSumPitch);
    _tile_loadd(1, sums + kSide, kSumPitch);
    if (both) {
      _tile_loadd(2, below, kSumPitch);
      _tile_loadd(3, below + kSide, kSumPitch);
    }
  }
  for (int64_t step = 0; step < steps; ++step, w += kStepBytes) {
    if (first) {  // tiles are loaded in order: without it, each would wait for the L2 cache
#pragma GCC unroll 32
      for (int line = 0; line < kStepBytes; line += 64) _mm_prefetch(w + 2 * kStepBytes + line, _MM_HINT_T0);
    }
    _tile_loadd(6, w, kSumPitch);
    _tile_loadd(4, x + step * 64, pitch);
    _tile_loadd(7, w + 64, kSumPitch);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (both) {
      _tile_loadd(5, x_below + step * 64, pitch);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    meanwhile();
  }
  _tile_stored(0, sums, kSumPitch);
  _tile_stored(1, sums + kSide, kSumPitch);
  if (both) {
    _tile_stored(2, below, kSumPitch);
    _tile_stored(3, below + kSide, kSumPitch);
  }
}

// Up to 32 rows by 32 columns of sums that are complete.
struct TileSums {
  const float* sums;
  int64_t row, column;  // the first ones
  int rows;
};

// Calls `finish(value, row, column)` for each vector of all sums of a block, and `announce(row, column)` before, once for two of them,
// so that what they are added to and where they go can be fetched.
//
// Weights of many inputs do not fit into the L1 cache beside the rows. They are taken in parts, each for all rows of the block;
// the sums wait in memory meanwhile. Storing them rounds nothing, so that the bits do not depend on it. Sums are finished while
// the next ones are added up, since the processor's tiles work beside its vectors. What is read of memory is shared out evenly:
// while one part is multiplied by all rows, the next one comes into the L2 cache.
template <class Finish, class Announce>
HEADWAY_INLINE void multiply_tiles(const Bfloat16Block& block, const Finish& finish, const Announce& announce) {
  const Bfloat16Weights& weights = *block.weights;
  const int64_t steps = weights.depth / kTileDepth, pitch = block.rows.pitch;
  const int64_t parts = block.count > kTileRows ? (steps + kMostSteps - 1) / kMostSteps : 1;
  alignas(64) float waiting[kMostRows * kPanelColumns], room[2][kTileRows * kPanelColumns];
  TileSums last{nullptr, 0, 0, 0};
  int finished = 0;  // vectors of the last sums
  const auto finish_some = [&](int vectors) {
    const int end = finished + vectors < 2 * last.rows ? finished + vectors : 2 * last.rows;
    for (; finished < end; ++finished)
      finish(load(last.sums + finished * kSide), last.row + finished / 2, last.column + finished % 2 * kSide);
  };
  const int tiles = static_cast<int>((block.count + kTileRows - 1) / kTileRows), lines = (kStepLines + tiles - 1) / tiles;
  int upper = 0, lower = 0, turn = 0;
  for (int64_t panel = block.first_panel; panel < block.end_panel; ++panel) {
    const char* panel_w = reinterpret_cast<const char*>(weights.values + panel * kPanelColumns * weights.depth);
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t from = part * steps / parts, some = (part + 1) * steps / parts - from;
      for (int64_t row = 0; row < block.count; row += kTileRows) {
        const int rows = static_cast<int>(block.count - row < kTileRows ? block.count - row : kTileRows);
        const int above = rows < kSide ? rows : kSide, below = rows > kSide ? rows - kSide : kSide;
        if (above != upper || below != lower) lay_out_tiles(upper = above, lower = below);
        float* sums = parts > 1 ? waiting + row * kPanelColumns : room[turn ^= 1];
        const char* w = panel_w + from * kStepBytes;
        const char* next = w + (tiles > 1 ? some : kStepsAhead) * kStepBytes + row / kTileRows * some * lines * 64;
        // The same number in each step: the processor foresees the ends of the loops.
        const int vectors = static_cast<int>((2 * last.rows + some - 1) / some);
        const int announced = part + 1 == parts ? static_cast<int>((rows + some - 1) / some) : 0, end = static_cast<int>(row) + rows;
        int coming = static_cast<int>(row);
        add_steps(block.rows.data + row * pitch + from * 64, pitch, w, some, sums, part == 0, rows > kSide, row == 0, [&] {
          for (int line = 0; line < lines; ++line, next += 64) _mm_prefetch(next, _MM_HINT_T1);
          for (int i = 0; i < announced && coming < end; ++i) announce(coming++, panel * kPanelColumns);
          finish_some(vectors);
        });
        last = {sums, row, panel * kPanelColumns, part + 1 == parts ? rows : 0};
        finished = 0;
      }
    }
  }
  finish_some(2 * kTileRows);
  _tile_release();
}

}  // namespace
}  // namespace headway::HEADWAY_ISA
