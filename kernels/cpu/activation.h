// act(x + bias), as it follows the first matmul of a feed-forward. Definition: kernels/reference.py.
#pragma once

#include <cstdint>

#include "isa.h"

namespace headway {

class Node;

enum class Activation { kNone, kGelu, kGeluTanh, kRelu, kTanh };

// The attribute `activation` of a node.
Activation activation_of(const Node& node, const char* otherwise = "none");

struct ActivationTable {
  // y [count] = act(x + bias); bias null: none. y may be x.
  void (*activate)(const float* x, const float* bias, float* y, int64_t count, Activation activation);
};
HEADWAY_TABLES(ActivationTable, activation_table)

}  // namespace headway
