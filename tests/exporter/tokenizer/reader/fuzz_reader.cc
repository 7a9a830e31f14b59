// Opens damaged compact files and encodes broken text, under the sanitizers: `fuzz_reader FILE ROUNDS`. Every failure has to be a
// TokenizerError; what was counted is printed.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "headway_tokenizer.h"

namespace {

uint32_t checksum(const std::string& data, size_t from) {
  uint32_t sum = ~0u;
  for (size_t i = from; i < data.size(); ++i) {
    sum ^= static_cast<uint8_t>(data[i]);
    for (int bit = 0; bit < 8; ++bit) sum = sum & 1 ? sum >> 1 ^ 0xEDB88320u : sum >> 1;
  }
  return ~sum;
}

std::string random_text(std::mt19937& random) {
  static const char* const kParts[] = {"the model", " ", "\xCC\x81", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80", "[SEP]", "<m>", "\xEA\xB0\x80", "Z\xC3\xBC", "\xE2\x96\x81"};
  std::string text;
  for (size_t left = random() % 12; left > 0; --left) {
    if (random() % 3 == 0) text += static_cast<char>(random());
    else text += kParts[random() % std::size(kParts)];
  }
  return text;
}

}  // namespace

int main(int, char** arguments) {
  std::ifstream stream(arguments[1], std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  std::mt19937 random(0);
  constexpr size_t kBody = 9;  // behind magic, version and checksum
  int opened = 0, refused = 0, encoded = 0, unencoded = 0;
  const auto use = [&](const headway::Tokenizer& tokenizer, int texts) {
    for (int i = 0; i < texts; ++i) {
      try {
        const std::string text = random_text(random);
        if (random() % 2) tokenizer.encode(text, random() % 20, random() % 30);
        else tokenizer.encode(text, random_text(random), random() % 20);
        ++encoded;
      } catch (const headway::TokenizerError&) {
        ++unencoded;
      }
    }
  };
  use(headway::Tokenizer(whole.data(), whole.size()), 20000);
  for (int round = atoi(arguments[2]); round > 0; --round) {
    std::string damaged = whole;
    const int kind = static_cast<int>(random() % 4);
    if (kind == 0) damaged.resize(random() % damaged.size());
    const size_t changes = kind == 0 ? 0 : 1 + random() % 4;
    for (size_t i = 0; i < changes && damaged.size() > kBody; ++i) {
      // The head of a file, where the tables are, is changed more often than the list of tokens.
      const size_t at = kBody + random() % (random() % 2 ? damaged.size() - kBody : std::min<size_t>(damaged.size() - kBody, 600));
      if (kind == 1) damaged[at] = static_cast<char>(random());
      else if (kind == 2) damaged[at] = static_cast<char>(damaged[at] + (random() % 2 ? 1 : -1));
      else damaged.erase(at, 1 + random() % 3);
    }
    if (random() % 8 != 0 && damaged.size() > kBody) {  // as if it had been made so
      const uint32_t sum = checksum(damaged, kBody);
      for (int i = 0; i < 4; ++i) damaged[5 + static_cast<size_t>(i)] = static_cast<char>(sum >> 8 * i);
    }
    // A buffer of its own of just this size: reading behind it is seen.
    const std::vector<char> exact(damaged.begin(), damaged.end());
    try {
      const headway::Tokenizer tokenizer(exact.data(), exact.size());
      ++opened;
      use(tokenizer, 20);
    } catch (const headway::TokenizerError&) {
      ++refused;
    }
  }
  std::printf("%d opened, %d refused, %d encoded, %d not\n", opened, refused, encoded, unencoded);
}
