#include "byte_pairs.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

namespace headway {
namespace {

constexpr int64_t kGroup = 4;
constexpr int kMost = 255;            // sum of four weights' sizes: times 128 it fits into 16 bits
constexpr size_t kMostWaiting = 32;   // groups that look for another: what keeps packing fast where few fit

struct Group {
  int32_t word;
  std::vector<int8_t> weights;
  std::vector<uint8_t> sums;  // of the sizes of two neighbours, 254 at most
};

Group group_of(int32_t word, std::vector<int8_t> weights) {
  std::vector<uint8_t> sums;
  for (size_t i = 0; i < weights.size(); i += 2)
    sums.push_back(static_cast<uint8_t>(std::abs(weights[i]) + std::abs(weights[i + 1])));
  return {word, std::move(weights), std::move(sums)};
}

bool fit(const Group& a, const Group& b) {
  return std::equal(a.sums.begin(), a.sums.end(), b.sums.begin(), [](int x, int y) { return x + y <= kMost; });
}

struct Sorted {
  std::vector<Group> paired, alone;
};

// Each group with the first that waits and fits.
Sorted sort_groups(std::vector<Group> groups) {
  Sorted sorted;
  std::vector<Group> waiting;
  for (Group& group : groups) {
    const auto found = std::find_if(waiting.begin(), waiting.end(), [&](const Group& other) { return fit(other, group); });
    if (found != waiting.end()) {
      sorted.paired.push_back(std::move(*found));
      sorted.paired.push_back(std::move(group));
      waiting.erase(found);
      continue;
    }
    waiting.push_back(std::move(group));
    if (waiting.size() > kMostWaiting) {
      sorted.alone.push_back(std::move(waiting.front()));
      waiting.erase(waiting.begin());
    }
  }
  std::move(waiting.begin(), waiting.end(), std::back_inserter(sorted.alone));
  return sorted;
}

// Groups of `size` weights. -128 becomes -127 there and -1 in another group for the same inputs.
std::vector<Group> groups_of(const int8_t* values, int64_t depth, size_t size, int sizes) {
  std::vector<Group> groups;
  for (int64_t input = 0; input < depth; input += kGroup, values += size) {
    const auto word = static_cast<int32_t>(input / sizes * 2 * sizes + input % sizes);
    std::vector<int8_t> weights(values, values + size), rest(size);
    for (size_t i = 0; i < size; ++i)
      if (weights[i] == INT8_MIN) weights[i] += 1, rest[i] = -1;
    const bool any = std::find(rest.begin(), rest.end(), -1) != rest.end();
    groups.push_back(group_of(word, std::move(weights)));
    if (any) groups.push_back(group_of(word, std::move(rest)));
  }
  return groups;
}

}  // namespace

BytePairs pair_bytes(const std::vector<int8_t>& values, int64_t depth, int64_t columns, int64_t panel, int sizes) {
  BytePairs made;
  std::vector<size_t> starts, first_words;
  for (int64_t column = 0; column < columns; column += panel) {
    const auto size = static_cast<size_t>(std::min(panel, columns - column) * kGroup);
    const Sorted sorted = sort_groups(groups_of(values.data() + column * depth, depth, size, sizes));
    starts.push_back(made.memory.size());
    first_words.push_back(made.words.size());
    made.panels.push_back({nullptr, nullptr, static_cast<int64_t>(sorted.paired.size() / 2), static_cast<int64_t>(sorted.alone.size())});
    for (const auto* groups : {&sorted.paired, &sorted.alone})
      for (const Group& group : *groups) {
        made.memory.insert(made.memory.end(), group.weights.begin(), group.weights.end());
        made.words.push_back(group.word);
      }
  }
  // Whole cache lines: a vector that crosses two takes twice as long to load.
  constexpr uintptr_t kLine = 64;
  std::vector<int8_t> moved(made.memory.size() + kLine);
  int8_t* const to = moved.data() + (kLine - reinterpret_cast<uintptr_t>(moved.data()) % kLine) % kLine;
  std::copy(made.memory.begin(), made.memory.end(), to);
  made.memory = std::move(moved);
  for (size_t i = 0; i < made.panels.size(); ++i) {
    made.panels[i].values = to + starts[i];
    made.panels[i].words = made.words.data() + first_words[i];
  }
  return made;
}

}  // namespace headway
