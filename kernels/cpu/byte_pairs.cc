#include "byte_pairs.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

namespace headway {
namespace {

constexpr int64_t kGroup = 4;
constexpr int kMostSizes = 255;      // sum of magnitudes of four weights: times 128, the largest magnitude, it fits into 16 bits
constexpr int kMostOfASign = 128;    // sum of four weights of one sign: times 255, the largest element, it fits
constexpr size_t kMostWaiting = 256;  // groups that wait for a partner: keeps packing fast where few fit

struct Group {
  int32_t word;
  std::vector<int8_t> weights;
};
using Groups = std::vector<Group>;
using Loads = std::vector<int16_t>;

// The most that two neighbors add to a 16-bit sum, upwards and downwards.
Loads loads_of_signs(const Group& group) {
  Loads loads;
  for (size_t i = 0; i < group.weights.size(); i += 2) {
    const int a = group.weights[i], b = group.weights[i + 1];
    loads.push_back(static_cast<int16_t>(std::max(a, 0) + std::max(b, 0)));
    loads.push_back(static_cast<int16_t>(std::max(-a, 0) + std::max(-b, 0)));
  }
  return loads;
}

Loads loads_of_sizes(const Group& group) {
  Loads loads;
  for (size_t i = 0; i < group.weights.size(); i += 2)
    loads.push_back(static_cast<int16_t>(std::abs(group.weights[i]) + std::abs(group.weights[i + 1])));
  return loads;
}

// Pairs each group with the first waiting one whose loads leave room for its own. Returns the pairs one after the other; groups
// without a partner stay in `groups`.
Groups pairs_of(Groups& groups, Loads (*loads_of)(const Group&), int most) {
  Groups pairs, left;
  std::vector<std::pair<Group, Loads>> waiting;
  for (Group& group : groups) {
    Loads loads = loads_of(group);
    const auto found = std::find_if(waiting.begin(), waiting.end(), [&](const auto& other) {
      return std::equal(loads.begin(), loads.end(), other.second.begin(), [&](int a, int b) { return a + b <= most; });
    });
    if (found != waiting.end()) {
      pairs.push_back(std::move(found->first));
      pairs.push_back(std::move(group));
      waiting.erase(found);
    } else if (waiting.size() < kMostWaiting && *std::max_element(loads.begin(), loads.end()) <= most) {
      waiting.emplace_back(std::move(group), std::move(loads));
    } else {
      left.push_back(std::move(group));
    }
  }
  for (auto& each : waiting) left.push_back(std::move(each.first));
  groups = std::move(left);
  return pairs;
}

// Splits -128 into -127 here and -1 in another group for the same inputs.
Groups with_opposites(const Groups& groups) {
  Groups made;
  for (const Group& group : groups) {
    Group whole = group, rest{group.word, std::vector<int8_t>(group.weights.size())};
    for (size_t i = 0; i < rest.weights.size(); ++i)
      if (whole.weights[i] == INT8_MIN) whole.weights[i] += 1, rest.weights[i] = -1;
    const bool any = std::find(rest.weights.begin(), rest.weights.end(), -1) != rest.weights.end();
    made.push_back(std::move(whole));
    if (any) made.push_back(std::move(rest));
  }
  return made;
}

}  // namespace

BytePairs pair_bytes(const std::vector<int8_t>& values, int64_t depth, int64_t columns, int64_t panel, int step) {
  BytePairs made;
  made.start.resize(static_cast<size_t>(columns));
  std::vector<size_t> starts, first_words;
  for (int64_t column = 0; column < columns; column += panel) {
    const int64_t size = std::min(panel, columns - column) * kGroup;
    const int8_t* from = values.data() + column * depth;
    Groups groups;
    for (int64_t input = 0; input < depth; input += kGroup, from += size)
      groups.push_back({static_cast<int32_t>(input / step * kPlanes * step + input % step), {from, from + size}});
    const Groups plain = pairs_of(groups, loads_of_signs, kMostOfASign);
    groups = with_opposites(groups);
    const Groups moved = pairs_of(groups, loads_of_sizes, kMostSizes);

    for (const Group& group : plain)
      for (size_t i = 0; i < group.weights.size(); ++i)
        made.start[static_cast<size_t>(column) + i / kGroup] -= 128 * group.weights[i];
    starts.push_back(made.memory.size());
    first_words.push_back(made.words.size());
    const auto half = [](const Groups& pairs) { return static_cast<int64_t>(pairs.size() / 2); };
    made.panels.push_back({nullptr, nullptr, half(plain), half(moved), static_cast<int64_t>(groups.size())});
    for (const auto* each : {&plain, &moved, static_cast<const Groups*>(&groups)})
      for (const Group& group : *each) {
        made.memory.insert(made.memory.end(), group.weights.begin(), group.weights.end());
        made.words.push_back(group.word);
      }
  }
  // Aligned to cache lines: a vector that crosses one takes twice as long to load.
  constexpr uintptr_t kLine = 64;
  std::vector<int8_t> aligned(made.memory.size() + kLine);
  int8_t* const to = aligned.data() + (kLine - reinterpret_cast<uintptr_t>(aligned.data()) % kLine) % kLine;
  std::copy(made.memory.begin(), made.memory.end(), to);
  made.memory = std::move(aligned);
  for (size_t i = 0; i < made.panels.size(); ++i) {
    made.panels[i].values = to + starts[i];
    made.panels[i].words = made.words.data() + first_words[i];
  }
  return made;
}

}  // namespace headway
