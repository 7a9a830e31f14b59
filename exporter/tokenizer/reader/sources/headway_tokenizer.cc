#include "headway_tokenizer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <queue>
#include <unordered_map>
#include <utility>
#include <variant>

namespace headway {
namespace {

using Ids = std::vector<int64_t>;

constexpr char kMagic[4] = {'H', 'W', 'T', 'K'};
constexpr uint64_t kVersion = 1;
constexpr uint32_t kCodePoints = 0x110000;

// Reads the file once from front to back. However it is damaged, no read goes beyond its end, and no count exceeds its size.
class File {
 public:
  File(const void* data, size_t size) : at_(static_cast<const uint8_t*>(data)), end_(at_ + size) {}

  size_t left() const { return static_cast<size_t>(end_ - at_); }

  uint8_t byte() {
    if (at_ == end_) fail("it ends too early");
    return *at_++;
  }

  uint64_t number() {  // LEB128
    uint64_t value = 0;
    for (int shift = 0; shift < 63; shift += 7) {
      const uint8_t part = byte();
      value |= static_cast<uint64_t>(part & 0x7F) << shift;
      if (part < 0x80) return value;
    }
    fail("a number is too large");
  }

  uint64_t number(uint64_t limit, const char* what) {
    const uint64_t value = number();
    if (value >= limit) fail(what);
    return value;
  }

  int64_t id() { return static_cast<int64_t>(number(uint64_t{1} << 31, "an id is too large")); }

  size_t count() {  // of items of at least one byte each
    return static_cast<size_t>(number(left() + 1, "a count is larger than the file"));
  }

  std::string_view bytes(size_t size) {
    if (size > left()) fail("it ends too early");
    const auto* start = reinterpret_cast<const char*>(at_);
    at_ += size;
    return {start, size};
  }

  uint32_t word() {  // little-endian
    uint32_t value = 0;
    for (int shift = 0; shift < 32; shift += 8) value |= static_cast<uint32_t>(byte()) << shift;
    return value;
  }

  [[noreturn]] static void fail(const char* what) {
    throw TokenizerError(std::string("the tokenizer file is damaged or of another version (") + what + "); make it again");
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

uint32_t crc32(std::string_view data) {  // the same as zlib's
  static const auto table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ 0xEDB88320u : value >> 1;
      made[i] = value;
    }
    return made;
  }();
  uint32_t sum = ~0u;
  for (const char c : data) sum = table[(sum ^ static_cast<uint8_t>(c)) & 0xFF] ^ sum >> 8;
  return ~sum;
}

inline bool is_ascii(char c) { return static_cast<uint8_t>(c) < 0x80; }  // char is signed on some processors only

// Decodes the character at `at`, of UTF-8 that was checked, and moves past it.
inline uint32_t decode(const char*& at) {
  const auto* byte = reinterpret_cast<const uint8_t*>(at);
  if (byte[0] < 0x80) return ++at, byte[0];
  if (byte[0] < 0xE0) return at += 2, (byte[0] & 0x1Fu) << 6 | (byte[1] & 0x3Fu);
  if (byte[0] < 0xF0) return at += 3, (byte[0] & 0x0Fu) << 12 | (byte[1] & 0x3Fu) << 6 | (byte[2] & 0x3Fu);
  return at += 4, (byte[0] & 0x07u) << 18 | (byte[1] & 0x3Fu) << 12 | (byte[2] & 0x3Fu) << 6 | (byte[3] & 0x3Fu);
}

inline const char* before(const char* end) {  // where the character that ends at `end` begins
  do --end;
  while ((*end & 0xC0) == 0x80);
  return end;
}

inline void append(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    const char bytes[] = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    out.append(bytes, 2);
  } else if (code < 0x10000) {
    const char bytes[] = {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3F)),
                          static_cast<char>(0x80 | (code & 0x3F))};
    out.append(bytes, 3);
  } else {
    const char bytes[] = {static_cast<char>(0xF0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 0x3F)),
                          static_cast<char>(0x80 | (code >> 6 & 0x3F)), static_cast<char>(0x80 | (code & 0x3F))};
    out.append(bytes, 4);
  }
}

// The first byte that is not UTF-8 (Unicode 15, table 3-7), or the size of the text.
size_t valid_prefix(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    const uint8_t lead = bytes[i];
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xC2 && lead < 0xE0 ? 2 : lead >= 0xE0 && lead < 0xF0 ? 3 : lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
    if (length == 0 || length > text.size() - i) return i;
    const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (bytes[i + 1] < low || bytes[i + 1] > high) return i;
    for (size_t k = 2; k < length; ++k)
      if ((bytes[i + k] & 0xC0) != 0x80) return i;
    i += length;
  }
  return i;
}

// Maps byte strings to numbers. Nodes are stored level by level, so that the children of a node are adjacent, sorted by their byte.
class Trie {
 public:
  static constexpr uint32_t kNone = ~0u;

  struct Entry {
    std::string_view key;
    uint32_t value;
  };

  Trie() : Trie(std::vector<Entry>()) {}

  explicit Trie(const std::vector<Entry>& sorted) {  // keys ascending, each once
    struct Part {
      size_t begin, end, depth;
    };
    std::vector<Part> parts{{0, sorted.size(), 0}};
    bytes_.push_back(0);
    for (size_t i = 0; i < parts.size(); ++i) {
      auto [begin, end, depth] = parts[i];
      const bool ends = begin < end && sorted[begin].key.size() == depth;
      values_.push_back(ends ? sorted[begin++].value : kNone);
      first_.push_back(static_cast<uint32_t>(parts.size()));
      while (begin < end) {
        const char byte = sorted[begin].key[depth];
        size_t stop = begin + 1;
        while (stop < end && sorted[stop].key[depth] == byte) ++stop;
        bytes_.push_back(static_cast<uint8_t>(byte));
        parts.push_back({begin, stop, depth + 1});
        begin = stop;
      }
    }
    first_.push_back(static_cast<uint32_t>(parts.size()));
    roots_.fill(kNone);
    for (uint32_t child = first_[0]; child < first_[1]; ++child) roots_[bytes_[child]] = child;
  }

  uint32_t child(uint32_t node, uint8_t byte) const {
    if (node == 0) return roots_[byte];
    uint32_t at = first_[node];
    const uint32_t end = first_[node + 1];
    if (end - at > 8) {
      const void* found = memchr(&bytes_[at], byte, end - at);
      return found == nullptr ? kNone : static_cast<uint32_t>(static_cast<const uint8_t*>(found) - bytes_.data());
    }
    for (; at < end; ++at)
      if (bytes_[at] == byte) return at;
    return kNone;
  }

  uint32_t value(uint32_t node) const { return values_[node]; }

  uint32_t find(std::string_view prefix) const {  // the node of `prefix`
    uint32_t node = 0;
    for (size_t i = 0; i < prefix.size() && node != kNone; ++i) node = child(node, static_cast<uint8_t>(prefix[i]));
    return node;
  }

  // Returns the value of the longest key at the front of [text, end) below `node` (kNone: none), with its end in `stop`.
  uint32_t longest(uint32_t node, const char* text, const char* end, const char*& stop) const {
    uint32_t best = kNone;
    while (text < end && (node = child(node, static_cast<uint8_t>(*text))) != kNone) {
      ++text;
      if (values_[node] != kNone) best = values_[node], stop = text;
    }
    return best;
  }

  bool starts(uint8_t byte) const { return roots_[byte] != kNone; }
  bool empty() const { return bytes_.size() == 1; }

 private:
  std::vector<uint8_t> bytes_;  // the byte that leads to a node
  std::vector<uint32_t> first_, values_;
  std::array<uint32_t, 256> roots_;
};

// Sorted strings, each stored as the length it shares with the one before and what it adds.
class Strings {
 public:
  explicit Strings(File& file) {
    const size_t count = file.count();
    std::string last;
    ends_.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      const uint64_t shared = file.number(last.size() + 1, "a token shares more than there is");
      const std::string_view added = file.bytes(file.count());
      const std::string before = last;
      last.resize(static_cast<size_t>(shared));
      last += added;
      if (i > 0 && last <= before) File::fail("tokens are not in order");
      if (pool_.size() + last.size() > kLargest) File::fail("its tokens are too large");
      pool_ += last;
      ends_.push_back(pool_.size());
    }
  }

  size_t size() const { return ends_.size(); }

  std::string_view operator[](size_t i) const {
    const size_t start = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(pool_).substr(start, ends_[i] - start);
  }

  std::vector<Trie::Entry> entries(const std::vector<uint32_t>& values) const {
    std::vector<Trie::Entry> made;
    for (size_t i = 0; i < size(); ++i)
      if (values[i] != Trie::kNone) made.push_back({(*this)[i], values[i]});
    return made;
  }

 private:
  static constexpr size_t kLargest = size_t{1} << 25;  // bytes of all tokens together; a small damaged file could claim more
  std::string pool_;
  std::vector<size_t> ends_;
};

std::vector<uint32_t> ids_of(File& file, size_t count) {
  std::vector<uint32_t> ids(count);
  for (uint32_t& id : ids) id = static_cast<uint32_t>(file.id());
  return ids;
}

// What the source's normalizer does to each character, and how its other parts classify it.
class Characters {
 public:
  enum Kind : uint8_t { kSame, kRemoved, kRemovedStarter, kMapped, kHangul, kSpaced, kKinds };
  enum Flag : uint8_t { kSeparator = 1, kIsolated = 2, kWord = 4, kSpace = 8, kLetter = 16, kNumber = 32 };

  struct Class {
    Kind kind;
    uint8_t flags;
    uint8_t rank;  // of a mark that is sorted among its neighbors; 0: none
    uint8_t join;  // how it joins into clusters: a Join, or kExtends with bits
  };

  enum Join : uint8_t { kOther, kControl, kPrepends, kPictograph, kConsonant, kL, kV, kT, kLV, kLVT, kExtends = 16 };
  enum Extends : uint8_t { kKeepsPictograph = 1, kLinks = 2, kKeepsConsonant = 4 };

  explicit Characters(File& file) {
    classes_.resize(file.number(257, "too many classes of characters"));
    for (Class& c : classes_) {
      c.kind = static_cast<Kind>(file.number(kKinds, "an unknown kind of character"));
      c.flags = file.byte();
      c.rank = file.byte();
      c.join = file.byte();
    }
    read_runs(file);
    std::string target;
    uint32_t code = 0;
    for (size_t left = file.count(); left > 0; --left) {
      code += static_cast<uint32_t>(file.number(kCodePoints - code, "a character beyond Unicode"));
      target.clear();
      for (size_t more = file.count(); more > 0; --more) {
        const uint64_t one = file.number(kCodePoints, "a character beyond Unicode");
        if (one >= 0xD800 && one < 0xE000) File::fail("half a surrogate pair");
        append(target, static_cast<uint32_t>(one));
      }
      mapped_.push_back({code, static_cast<uint32_t>(pool_.size()), static_cast<uint32_t>(target.size())});
      pool_ += target;
    }
    for (uint32_t c = 0; c < 128; ++c) {
      const std::string_view made = of(c).kind == kMapped ? mapped(c) : std::string_view();
      ascii_[c] = of(c).kind == kSame ? static_cast<char>(c) : made.size() == 1 && is_ascii(made[0]) ? made[0] : '\xFF';
    }
  }

  const Class& of(uint32_t code) const { return classes_[table_[(static_cast<size_t>(blocks_[code >> 8]) << 8) + (code & 0xFF)]]; }

  // Returns the end of the grapheme cluster at the front of [at, end) (Unicode, UAX 29). Regional indicators are not treated apart:
  // with or without a second one a cluster is too long to be looked up as a whole, the only use of clusters here.
  const char* cluster(const char* at, const char* end) const {
    enum { kNothing, kBase, kJoined } pictograph = kNothing, consonant = kNothing;
    uint32_t code = decode(at);
    for (uint8_t before = of(code).join;; before = of(code).join) {
      const bool extends = (before & kExtends) != 0;
      const auto follow = [&](auto& state, bool begins, bool joins, bool keeps) {
        state = begins ? kBase : state != kNothing && joins ? kJoined : state != kNothing && keeps ? state : kNothing;
      };
      follow(pictograph, before == kPictograph, code == 0x200D && pictograph == kBase, extends && (before & kKeepsPictograph));
      follow(consonant, before == kConsonant, extends && (before & kLinks), extends && (before & kKeepsConsonant));
      if (at == end) return at;
      const char* next = at;
      const uint32_t following = decode(next);
      const uint8_t behind = of(following).join;
      const bool joined = before == kControl || behind == kControl ? code == '\r' && following == '\n'
                          : (behind & kExtends) || before == kPrepends || (pictograph == kJoined && behind == kPictograph) ||
                                (consonant == kJoined && behind == kConsonant) || syllable(before, behind);
      if (!joined) return at;
      at = next;
      code = following;
    }
  }

  std::string normalize(std::string_view text) const {
    std::string out;
    out.reserve(text.size() + text.size() / 4);
    std::vector<std::pair<uint8_t, uint32_t>> marks;  // that wait for a character which is none
    const char* at = text.data();
    for (const char* end = at + text.size(); at < end;) {
      if (marks.empty()) {
        while (at < end && is_ascii(*at) && ascii_[static_cast<uint8_t>(*at)] != '\xFF') out += ascii_[static_cast<uint8_t>(*at++)];
        if (at == end) break;
      }
      const uint32_t code = decode(at);
      const Class& c = of(code);
      switch (c.kind) {
        case kSame:
          put(out, marks, code, c.rank);
          break;
        case kRemovedStarter:
          settle(out, marks);
          break;
        case kMapped: {
          const std::string_view made = mapped(code);
          const char* next = made.data();
          for (const char* stop = next + made.size(); next < stop;) {
            const uint32_t one = decode(next);
            put(out, marks, one, of(one).rank);
          }
          break;
        }
        case kHangul: {  // Unicode 15, section 3.12
          settle(out, marks);
          const uint32_t index = code - 0xAC00;
          append(out, 0x1100 + index / 588);
          append(out, 0x1161 + index % 588 / 28);
          if (index % 28 != 0) append(out, 0x11A7 + index % 28);
          break;
        }
        case kSpaced:
          settle(out, marks);
          out += ' ';
          append(out, code);
          out += ' ';
          break;
        default:
          break;
      }
    }
    settle(out, marks);
    return out;
  }

 private:
  struct Mapped {
    uint32_t code, start, size;
  };
  using Marks = std::vector<std::pair<uint8_t, uint32_t>>;

  void read_runs(File& file) {
    std::vector<uint8_t> block;
    std::unordered_map<std::string, uint16_t> known;
    for (size_t left = file.count(); left > 0; --left) {
      uint64_t length = file.number(kCodePoints + 1, "too many characters");
      const auto kind = static_cast<uint8_t>(file.number(classes_.size(), "an unknown class of characters"));
      const bool hangul = classes_[kind].kind == kHangul;
      const uint64_t start = blocks_.size() * 256 + block.size();
      if (start + length > kCodePoints || (hangul && (start < 0xAC00 || start + length > 0xD7A4))) File::fail("characters beyond Unicode");
      while (length > 0) {
        const size_t fill = std::min<size_t>(static_cast<size_t>(length), 256 - block.size());
        block.insert(block.end(), fill, kind);
        length -= fill;
        if (block.size() < 256) continue;
        const auto [found, fresh] = known.try_emplace(std::string(block.begin(), block.end()), static_cast<uint16_t>(known.size()));
        if (fresh) table_.insert(table_.end(), block.begin(), block.end());
        blocks_.push_back(found->second);
        block.clear();
      }
    }
    if (blocks_.size() != kCodePoints / 256) File::fail("characters are missing");
  }

  static bool syllable(uint8_t before, uint8_t behind) {
    if (before == kL) return behind == kL || behind == kV || behind == kLV || behind == kLVT;
    if (before == kLV || before == kV) return behind == kV || behind == kT;
    return (before == kLVT || before == kT) && behind == kT;
  }

  std::string_view mapped(uint32_t code) const {
    const auto found = std::lower_bound(mapped_.begin(), mapped_.end(), code, [](const Mapped& m, uint32_t c) { return m.code < c; });
    if (found == mapped_.end() || found->code != code) return {};
    return std::string_view(pool_).substr(found->start, found->size);
  }

  // Canonical order (Unicode 15, section 3.11): consecutive marks are sorted by their classes.
  static void put(std::string& out, Marks& marks, uint32_t code, uint8_t rank) {
    if (rank != 0) {
      marks.emplace_back(rank, code);
      return;
    }
    settle(out, marks);
    append(out, code);
  }

  static void settle(std::string& out, Marks& marks) {
    if (marks.empty()) return;
    std::stable_sort(marks.begin(), marks.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [rank, code] : marks) append(out, code);
    marks.clear();
  }

  std::vector<Class> classes_;
  std::vector<uint16_t> blocks_;
  std::vector<uint8_t> table_;
  std::vector<Mapped> mapped_;
  std::string pool_;
  std::array<char, 128> ascii_;  // what ASCII becomes; 0xFF: not in this table
};

// The steps that normalize text.
class Normalizer {
 public:
  explicit Normalizer(File& file) : characters_(file) {
    for (size_t left = file.count(); left > 0; --left) {
      Step step{static_cast<Kind>(file.number(kKinds, "an unknown step of normalization")), {}, {}, {}, {}, {}};
      if (step.kind == kReplace) {
        step.from = file.bytes(file.count());
        step.to = file.bytes(file.count());
        if (step.from.empty()) File::fail("nothing is replaced");
      } else if (step.kind == kClusters) {
        const Strings keys(file);
        std::vector<uint32_t> places(keys.size());
        for (size_t i = 0; i < keys.size(); ++i) {
          places[i] = static_cast<uint32_t>(i);
          step.values.emplace_back(file.bytes(file.count()));
          const std::string& value = step.values.back();
          if (keys[i].empty() || valid_prefix(value) != value.size()) File::fail("a replacement is not UTF-8");
          // A key is text, or the front of a character that no text ends in.
          if (valid_prefix(keys[i]) != keys[i].size()) File::fail("a key is not UTF-8");
        }
        step.keys = Trie(keys.entries(places));
      } else if (step.kind == kCompose) {
        for (size_t more = file.count(); more > 0; --more) {
          const uint64_t first = file.number(kCodePoints, "a character beyond Unicode");
          const uint64_t second = file.number(kCodePoints, "a character beyond Unicode");
          const uint64_t made = file.number(kCodePoints, "a character beyond Unicode");
          if (made >= 0xD800 && made < 0xE000) File::fail("half a surrogate pair");
          step.composed[first << 32 | second] = static_cast<uint32_t>(made);
        }
      }
      steps_.push_back(std::move(step));
    }
  }

  const Characters& characters() const { return characters_; }

  std::string run(std::string_view text) const {
    std::string made(text);
    for (const Step& step : steps_) {
      switch (step.kind) {
        case kCharacters:
          made = characters_.normalize(made);
          break;
        case kClusters:
          made = clusters(step, made);
          break;
        case kReplace:
          for (size_t at = 0; (at = made.find(step.from, at)) != std::string::npos; at += step.to.size()) made.replace(at, step.from.size(), step.to);
          break;
        case kCompose:
          made = compose(step, made);
          break;
        case kWhiteSpace:
          made = white_space(made);
          break;
        case kStripLeft:
          for (const char* at = made.data(); !made.empty() && is_space(at); at = made.data()) decode(at), made.erase(0, static_cast<size_t>(at - made.data()));
          break;
        case kStripRight:
          for (const char* at; !made.empty() && is_space(at = before(made.data() + made.size()));) made.erase(static_cast<size_t>(at - made.data()));
          break;
        default:  // several spaces become one
          made.erase(std::unique(made.begin(), made.end(), [](char a, char b) { return a == ' ' && b == ' '; }), made.end());
      }
    }
    return made;
  }

 private:
  enum Kind : uint8_t { kCharacters, kClusters, kReplace, kOneSpace, kCompose, kWhiteSpace, kStripLeft, kStripRight, kKinds };
  struct Step {
    Kind kind;
    std::string from, to;
    Trie keys;
    std::vector<std::string> values;
    std::unordered_map<uint64_t, uint32_t> composed;  // of two characters
  };

  bool is_space(const char* at) const { return characters_.of(decode(at)).flags & Characters::kSpace; }

  // Replaces several white-space characters, and a single line break or tab, by one space.
  std::string white_space(const std::string& text) const {
    std::string out;
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at < end;) {
      const char* const start = at;
      size_t count = 0;
      while (at < end && is_space(at)) decode(at), ++count;
      if (count == 0) decode(at);
      if (count > 1 || *start == '\n' || *start == '\r' || *start == '\t') out += ' ';
      else out.append(start, at);
    }
    return out;
  }

  // Canonical composition of text that is decomposed and in canonical order (Unicode, section 3.11).
  std::string compose(const Step& step, const std::string& text) const {
    const auto pair = [&](uint32_t first, uint32_t second) -> uint32_t {
      if (first - 0x1100 < 19 && second - 0x1161 < 21) return 0xAC00 + ((first - 0x1100) * 21 + second - 0x1161) * 28;
      if (first - 0xAC00 < 11172 && (first - 0xAC00) % 28 == 0 && second - 0x11A8 < 27) return first + second - 0x11A7;
      const auto found = step.composed.find(static_cast<uint64_t>(first) << 32 | second);
      return found == step.composed.end() ? 0 : found->second;
    };
    std::vector<uint32_t> made;
    size_t starter = 0;  // of `made`, where there is one
    int last = 0;        // rank of the mark after the starter; -1: none
    bool started = false;
    const char* at = text.data();
    for (const char* end = at + text.size(); at < end;) {
      const uint32_t code = decode(at);
      const int rank = characters_.of(code).rank;
      if (const uint32_t one = started && last < rank ? pair(made[starter], code) : 0) {
        made[starter] = one;
        continue;
      }
      if (rank == 0) starter = made.size(), started = true;
      last = rank == 0 ? -1 : rank;
      made.push_back(code);
    }
    std::string out;
    for (const uint32_t code : made) append(out, code);
    return out;
  }

  // Clusters below six bytes are looked up as a whole, others character by character; text that begins with a key becomes its value.
  std::string clusters(const Step& step, const std::string& text) const {
    std::string out;
    out.reserve(text.size());
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at < end;) {
      const char* const stop = characters_.cluster(at, end);
      if (stop - at < 6 && put(step, at, stop, out)) {
        at = stop;
        continue;
      }
      while (at < stop) {
        const char* const character = at;
        decode(at);
        if (!put(step, character, at, out)) out.append(character, at);
      }
    }
    return out;
  }

  static bool put(const Step& step, const char* at, const char* end, std::string& out) {
    uint32_t node = 0;
    while (at < end && (node = step.keys.child(node, static_cast<uint8_t>(*at++))) != Trie::kNone) {
      if (step.keys.value(node) == Trie::kNone) continue;
      out += step.values[step.keys.value(node)];
      return true;
    }
    return false;
  }

  Characters characters_;
  std::vector<Step> steps_;
};

// Tokens that are matched in the text itself, before it is split: special ones, and those a user added.
class AddedTokens {
 public:
  explicit AddedTokens(File& file) {
    const Strings texts(file);
    std::vector<uint32_t> places(texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      if (texts[i].empty()) File::fail("an empty added token");
      const int64_t id = file.id();
      tokens_.push_back({id, file.byte()});
      places[i] = static_cast<uint32_t>(i);
    }
    trie_ = Trie(texts.entries(places));
  }

  // Calls `token(id)` for each match, leftmost first and then longest, and `between(text)` for the text between.
  template <class OnText, class OnToken>
  void split(std::string_view text, const Characters& characters, const OnText& between, const OnToken& token) const {
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    const char* done = begin;
    if (trie_.empty()) return between(text);
    for (const char* at = begin; at < end;) {
      const char* stop = at;
      const uint32_t place = trie_.starts(static_cast<uint8_t>(*at)) ? trie_.longest(0, at, end, stop) : Trie::kNone;
      if (place == Trie::kNone) {
        ++at;
        continue;
      }
      const char* start = at;
      at = stop;
      const Token& found = tokens_[place];
      const auto is = [&](const char* character, uint8_t flag) { return (characters.of(decode(character)).flags & flag) != 0; };
      if (found.flags & kSingleWord) {
        const bool behind_word = start > begin && is(before(start), Characters::kWord);
        if (behind_word || (stop < end && is(stop, Characters::kWord))) continue;
      }
      if (found.flags & kStripsLeft) {
        const char* left = start;
        while (left > begin && is(before(left), Characters::kSpace)) left = before(left);
        start = std::max(left, done);
      }
      if (found.flags & kStripsRight) {
        while (stop < end && is(stop, Characters::kSpace)) decode(stop);
      }
      if (done < start) between({done, static_cast<size_t>(start - done)});
      token(found.id);
      done = stop;
    }
    if (done != end) between({done, static_cast<size_t>(end - done)});
  }

 private:
  enum : uint8_t { kSingleWord = 1, kStripsLeft = 2, kStripsRight = 4 };
  struct Token {
    int64_t id;
    uint8_t flags;
  };
  std::vector<Token> tokens_;
  Trie trie_;
};

// Splits words into the longest pieces, from left to right (Wu et al. 2016, section 4.1; greedy as in BERT).
class WordPiece {
 public:
  explicit WordPiece(File& file) {
    unknown_ = file.id();
    longest_ = file.number();
    const std::string prefix(file.bytes(file.count()));
    const Strings tokens(file);
    trie_ = Trie(tokens.entries(ids_of(file, tokens.size())));
    inside_ = trie_.find(prefix);
  }

  void word(const char* text, const char* end, size_t characters, Ids& out) const {
    if (characters > longest_) return out.push_back(unknown_);
    const size_t before = out.size();
    for (uint32_t node = 0; text < end; node = inside_) {
      const uint32_t id = node == Trie::kNone ? Trie::kNone : trie_.longest(node, text, end, text);
      if (id == Trie::kNone) {
        out.resize(before);
        return out.push_back(unknown_);
      }
      out.push_back(id);
    }
  }

 private:
  int64_t unknown_;
  uint64_t longest_;  // in characters
  uint32_t inside_;   // the node of the prefix that marks a piece which does not begin a word
  Trie trie_;
};

// Merges bytes into tokens: the pair that was learned first before all others, from left to right (Sennrich et al. 2016).
class BytePairs {
 public:
  explicit BytePairs(File& file) {
    spaced_ = file.byte() != 0;
    for (int64_t& id : bytes_) id = file.id();
    const size_t count = file.count();
    size_t size = 16;
    while (size < 2 * count) size *= 2;
    slots_.resize(size);
    int64_t made = 0;
    for (size_t rank = 0; rank < count; ++rank) {
      const int64_t left = file.id(), right = file.id();
      const uint64_t step = file.number();  // from the token before to this one, the sign in the lowest bit
      made += step & 1 ? -static_cast<int64_t>(step >> 1) - 1 : static_cast<int64_t>(step >> 1);
      if (made < 0 || made >= int64_t{1} << 31) File::fail("an id is too large");
      Slot& slot = slots_[place(static_cast<uint64_t>(left), static_cast<uint64_t>(right))];
      if (slot.left != kNone) File::fail("a pair is joined twice");
      slot = {static_cast<uint32_t>(left), static_cast<uint32_t>(right), static_cast<uint32_t>(made), static_cast<uint32_t>(rank)};
    }
  }

  bool spaced() const { return spaced_; }  // text begins with a space, or is given one

  void word(const char* text, const char* end, Ids& out) const {
    const auto size = static_cast<size_t>(end - text);
    if (size == 1) return out.push_back(bytes_[static_cast<uint8_t>(*text)]);
    std::vector<Symbol> symbols(size);
    for (size_t i = 0; i < size; ++i) symbols[i] = {static_cast<uint32_t>(bytes_[static_cast<uint8_t>(text[i])]), i - 1, i + 1};
    std::priority_queue<Join, std::vector<Join>, std::greater<Join>> joins;
    const auto consider = [&](size_t left) {  // with the symbol behind it
      if (left >= size || symbols[left].next >= size) return;
      const Slot& slot = slots_[place(symbols[left].id, symbols[symbols[left].next].id)];
      if (slot.left != kNone) joins.push({slot.rank, left});
    };
    for (size_t i = 0; i + 1 < size; ++i) consider(i);
    while (!joins.empty()) {
      const Join join = joins.top();
      joins.pop();
      Symbol& left = symbols[join.left];
      if (left.id == kNone || left.next >= size) continue;  // joined already
      Symbol& right = symbols[left.next];
      const Slot& slot = slots_[place(left.id, right.id)];
      if (slot.left == kNone || slot.rank != join.rank) continue;
      left.id = slot.made;
      right.id = kNone;
      left.next = right.next;
      if (left.next < size) symbols[left.next].previous = join.left;
      consider(left.previous);
      consider(join.left);
    }
    for (size_t i = 0; i < size; i = symbols[i].next) out.push_back(symbols[i].id);
  }

 private:
  static constexpr uint32_t kNone = ~0u;
  struct Slot {
    uint32_t left = kNone, right = kNone, made = kNone, rank = kNone;
  };
  struct Symbol {
    uint32_t id;
    size_t previous, next;
  };
  struct Join {
    uint32_t rank;
    size_t left;
    bool operator>(const Join& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };

  size_t place(uint64_t left, uint64_t right) const {  // of the pair, or the free one where it would stand
    const size_t mask = slots_.size() - 1;
    const uint64_t key = (left << 32 | right) * 0x9E3779B97F4A7C15u;
    size_t at = static_cast<size_t>(key >> 32) & mask;
    while (slots_[at].left != kNone && (slots_[at].left != left || slots_[at].right != right)) at = (at + 1) & mask;
    return at;
  }

  bool spaced_;
  std::array<int64_t, 256> bytes_;
  std::vector<Slot> slots_;
};

// Splits a word in the likeliest way, by the sum of its tokens' scores (Kudo 2018; Viterbi).
class Unigram {
 public:
  explicit Unigram(File& file) {
    splits_ = file.byte() != 0;
    prefixes_ = file.byte() != 0;
    mark_ = file.bytes(file.count());
    if (mark_.empty() || valid_prefix(mark_) != mark_.size()) File::fail("the mark for spaces is not UTF-8");
    unknown_ = static_cast<uint32_t>(file.id());
    unknown_score_ = score(file, 8);
    const size_t width = file.byte();
    if (width != 4 && width != 8) File::fail("a width of scores is unknown");
    const Strings tokens(file);
    ids_ = ids_of(file, tokens.size());
    std::vector<uint32_t> places(tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].empty() || valid_prefix(tokens[i]) != tokens[i].size()) File::fail("a token is not UTF-8");
      places[i] = static_cast<uint32_t>(i);
      scores_.push_back(score(file, width));
    }
    trie_ = Trie(tokens.entries(places));
  }

  bool splits() const { return splits_; }      // at white space
  bool prefixes() const { return prefixes_; }  // the mark stands before every word
  const std::string& mark() const { return mark_; }

  void word(std::string_view text, Ids& out) const {
    struct Best {
      double score = 0;
      size_t start = 0;
      uint32_t id = 0;
      bool reached = false;
    };
    const size_t size = text.size();
    std::vector<Best> best(size + 1);  // of ways that end there
    for (size_t start = 0; start < size;) {
      const char* next = text.data() + start;
      decode(next);
      const auto one = static_cast<size_t>(next - text.data());
      const double before = best[start].score;
      const auto offer = [&](size_t stop, double total, uint32_t id) {
        if (!best[stop].reached || total > best[stop].score) best[stop] = {total, start, id, true};
      };
      bool single = false;
      uint32_t node = 0;
      for (size_t stop = start; stop < size && (node = trie_.child(node, static_cast<uint8_t>(text[stop]))) != Trie::kNone;) {
        ++stop;
        const uint32_t place = trie_.value(node);
        if (place == Trie::kNone) continue;
        offer(stop, scores_[place] + before, ids_[place]);
        single = single || stop == one;
      }
      if (!single) offer(one, unknown_score_ + before, unknown_);
      start = one;
    }
    // From the end; unknown neighbors become one.
    const size_t from = out.size();
    for (size_t stop = size; stop > 0;) {
      const Best& last = best[stop];
      size_t start = last.start;
      uint32_t id = last.id;
      if (id == unknown_) {
        while (start > 0 && best[start].id == unknown_) start = best[start].start;
        const uint32_t node = trie_.find(text.substr(start, stop - start));
        const uint32_t place = node == Trie::kNone ? Trie::kNone : trie_.value(node);
        if (place != Trie::kNone) id = ids_[place];
      }
      out.push_back(id);
      stop = start;
    }
    std::reverse(out.begin() + static_cast<std::ptrdiff_t>(from), out.end());
  }

 private:
  static double score(File& file, size_t width) {
    const std::string_view bytes = file.bytes(width);
    uint64_t bits = 0;
    for (size_t i = 0; i < width; ++i) bits |= static_cast<uint64_t>(static_cast<uint8_t>(bytes[i])) << 8 * i;
    if (width == 4) {
      float value;
      const auto half = static_cast<uint32_t>(bits);
      memcpy(&value, &half, sizeof value);
      return static_cast<double>(value);
    }
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }

  bool splits_, prefixes_;
  std::string mark_;
  uint32_t unknown_;
  double unknown_score_;
  std::vector<uint32_t> ids_;
  std::vector<double> scores_;
  Trie trie_;
};

// The tokens around a text or a pair.
class Template {
 public:
  explicit Template(File& file) : parts_(file.count()) {
    for (Part& part : parts_) {
      part.kind = static_cast<uint8_t>(file.number(3, "an unknown part of a template"));
      part.type = file.id();
      part.id = part.kind == kSpecial ? file.id() : 0;
    }
  }

  size_t added() const {
    return static_cast<size_t>(std::count_if(parts_.begin(), parts_.end(), [](const Part& p) { return p.kind == kSpecial; }));
  }

  void fill(const Ids& text, const Ids& pair, Encoding& out) const {
    for (const Part& part : parts_) {
      if (part.kind == kSpecial) {
        out.ids.push_back(part.id);
      } else {
        const Ids& from = part.kind == kText ? text : pair;
        out.ids.insert(out.ids.end(), from.begin(), from.end());
      }
      out.token_type_ids.resize(out.ids.size(), part.type);
    }
    out.attention_mask.assign(out.ids.size(), 1);
  }

 private:
  enum : uint8_t { kSpecial, kText, kPair };
  struct Part {
    uint8_t kind;
    int64_t type, id;
  };
  std::vector<Part> parts_;
};

// Removes tokens from the longer of both until they fit, and from both alike once their lengths are equal.
void truncate(Ids& text, Ids* pair, size_t room) {
  if (pair == nullptr) {
    if (text.size() > room) text.resize(room);
    return;
  }
  if (text.size() + pair->size() <= room) return;
  const bool text_is_longer = text.size() > pair->size();
  size_t shorter = std::min(text.size(), pair->size());
  size_t longer = shorter > room ? shorter : std::max(shorter, room - shorter);
  if (shorter + longer > room) shorter = room / 2, longer = shorter + room % 2;
  const size_t of_text = text_is_longer ? longer : shorter, of_pair = text_is_longer ? shorter : longer;
  if (text.size() > of_text) text.resize(of_text);
  if (pair->size() > of_pair) pair->resize(of_pair);
}

}  // namespace

struct Tokenizer::Parts {
  explicit Parts(File file)
      : longest(static_cast<size_t>(file.id())),
        pad_id(file.id()),
        pad_type(file.id()),
        single(file),
        paired(file),
        normalizer(file),
        raw(file),
        normalized(file),
        model(read_model(file)) {
    if (file.left() != 0) File::fail("it goes on behind its end");
  }

  Ids tokens(std::string_view text) const {
    const size_t valid = valid_prefix(text);
    if (valid != text.size()) throw TokenizerError("the text is not UTF-8 from byte " + std::to_string(valid) + " on");
    Ids out;
    const auto found = [&](int64_t id) { out.push_back(id); };
    const Characters& characters = normalizer.characters();
    raw.split(
        text, characters,
        [&](std::string_view part) {
          const std::string plain = normalizer.run(part);
          normalized.split(
              plain, characters,
              [&](std::string_view rest) {
                if (!rest.empty()) std::visit([&](const auto& one) { words(one, rest, out); }, model);
              },
              found);
        },
        found);
    return out;
  }

  // Words are between separators; each isolated character is a word.
  void words(const WordPiece& pieces, std::string_view text, Ids& out) const {
    const char* const end = text.data() + text.size();
    const char* start = text.data();
    size_t length = 0;
    for (const char* at = start; at < end;) {
      const char* const here = at;
      const uint8_t flags = normalizer.characters().of(decode(at)).flags;
      if ((flags & (Characters::kSeparator | Characters::kIsolated)) == 0) {
        ++length;
        continue;
      }
      if (start < here) pieces.word(start, here, length, out);
      if (flags & Characters::kIsolated) pieces.word(here, at, 1, out);
      start = at, length = 0;
    }
    if (start < end) pieces.word(start, end, length, out);
  }

  // Runs of letters, of numbers and of other characters, each with one space before it; English clitics; white space
  // (Radford et al. 2019, the published expression of GPT-2).
  void words(const BytePairs& pairs, std::string_view text, Ids& out) const {
    std::string spaced;
    if (pairs.spaced() && text.front() != ' ') text = spaced = " " + std::string(text);
    const char* const end = text.data() + text.size();
    const auto kind = [&](const char* at) -> uint8_t {
      return normalizer.characters().of(decode(at)).flags & (Characters::kSeparator | Characters::kLetter | Characters::kNumber);
    };
    for (const char* at = text.data(); at < end;) {
      const char* const start = at;
      if (const size_t clitic = clitic_at(at, end)) {
        at += clitic;
      } else {
        if (*at == ' ' && at + 1 < end && kind(at + 1) != Characters::kSeparator) ++at;
        const uint8_t run = kind(at);
        const char* last = at;
        while (at < end && kind(at) == run) last = at, decode(at);
        // The last of several separators is a word, or the space before what follows.
        if (run == Characters::kSeparator && at < end && last > start) at = last;
      }
      pairs.word(start, at, out);
    }
  }

  static size_t clitic_at(const char* at, const char* end) {
    if (*at != '\'') return 0;
    for (const std::string_view clitic : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
      if (std::string_view(at, static_cast<size_t>(end - at)).substr(0, clitic.size()) == clitic) return clitic.size();
    return 0;
  }

  // Each space becomes a mark, and a word begins at each mark.
  void words(const Unigram& model, std::string_view text, Ids& out) const {
    const char* const end = text.data() + text.size();
    const char* start = text.data();
    for (const char* at = start; at < end;) {
      const char* const here = at;
      const uint8_t flags = normalizer.characters().of(decode(at)).flags;
      const bool isolated = flags & Characters::kIsolated;
      if (!isolated && !(model.splits() && (flags & Characters::kSeparator))) continue;
      if (start < here) marked({start, static_cast<size_t>(here - start)}, model, out);
      if (isolated) marked({here, static_cast<size_t>(at - here)}, model, out);
      start = at;
    }
    if (start < end) marked({start, static_cast<size_t>(end - start)}, model, out);
  }

  static void marked(std::string_view text, const Unigram& model, Ids& out) {
    const std::string& mark = model.mark();
    std::string made;
    for (const char c : text) c == ' ' ? made += mark : made += c;
    if (model.prefixes() && made.compare(0, mark.size(), mark) != 0) made.insert(0, mark);
    for (size_t start = 0; start < made.size();) {
      const size_t stop = std::min(made.find(mark, start + (made.compare(start, mark.size(), mark) == 0 ? mark.size() : 0)), made.size());
      model.word(std::string_view(made).substr(start, stop - start), out);
      start = stop;
    }
  }

  using Model = std::variant<WordPiece, BytePairs, Unigram>;

  static Model read_model(File& file) {
    switch (file.number(3, "an unknown kind of model")) {
      case 0:
        return WordPiece(file);
      case 1:
        return BytePairs(file);
      default:
        return Unigram(file);
    }
  }

  size_t longest;
  int64_t pad_id, pad_type;
  Template single, paired;
  Normalizer normalizer;
  AddedTokens raw, normalized;
  Model model;
};

namespace {

File open(const void* data, size_t size) {
  File file(data, size);
  if (size < sizeof kMagic || memcmp(file.bytes(sizeof kMagic).data(), kMagic, sizeof kMagic) != 0) File::fail("it is none");
  if (file.number() != kVersion) File::fail("its version is not the one that this reader reads");
  const uint32_t sum = file.word();
  File rest = file;
  if (crc32(rest.bytes(rest.left())) != sum) File::fail("its checksum is wrong");
  return file;
}

}  // namespace

Tokenizer::Tokenizer(const void* data, size_t size) : parts_(std::make_unique<const Parts>(open(data, size))) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

size_t Tokenizer::max_length() const { return parts_->longest; }

Encoding Tokenizer::encode(std::string_view text, size_t longest, size_t padded) const {
  return build(text, nullptr, longest, padded);
}

Encoding Tokenizer::encode(std::string_view text, std::string_view pair, size_t longest, size_t padded) const {
  return build(text, &pair, longest, padded);
}

Encoding Tokenizer::build(std::string_view text, const std::string_view* pair, size_t longest, size_t padded) const {
  const Parts& parts = *parts_;
  const Template& shape = pair == nullptr ? parts.single : parts.paired;
  if (longest == 0) longest = parts.longest;
  if (longest < shape.added()) {
    throw TokenizerError("a length of " + std::to_string(longest) + " has no room for the " + std::to_string(shape.added()) +
                         " special tokens");
  }
  Ids first = parts.tokens(text), second = pair == nullptr ? Ids() : parts.tokens(*pair);
  truncate(first, pair == nullptr ? nullptr : &second, longest - shape.added());
  Encoding out;
  shape.fill(first, second, out);
  if (out.ids.size() < padded) {
    out.ids.resize(padded, parts.pad_id);
    out.token_type_ids.resize(padded, parts.pad_type);
    out.attention_mask.resize(padded, 0);
  }
  return out;
}

}  // namespace headway

struct headway_tokenizer {
  headway::Tokenizer tokenizer;
};

namespace {

void tell(const char* what, char* error, size_t error_size) {
  if (error == nullptr || error_size == 0) return;
  const size_t length = std::min(strlen(what), error_size - 1);
  memcpy(error, what, length);
  error[length] = '\0';
}

}  // namespace

headway_tokenizer* headway_tokenizer_open(const void* data, size_t size, char* error, size_t error_size) {
  try {
    return new headway_tokenizer{headway::Tokenizer(data, size)};
  } catch (const std::exception& problem) {
    tell(problem.what(), error, error_size);
    return nullptr;
  }
}

void headway_tokenizer_close(headway_tokenizer* tokenizer) { delete tokenizer; }

size_t headway_tokenizer_max_length(const headway_tokenizer* tokenizer) { return tokenizer->tokenizer.max_length(); }

int64_t headway_tokenizer_encode(const headway_tokenizer* tokenizer, const char* text, size_t text_size, const char* pair,
                                 size_t pair_size, size_t length, int64_t* ids, int64_t* attention_mask,
                                 int64_t* token_type_ids, char* error, size_t error_size) {
  try {
    if (length == 0) throw headway::TokenizerError("a length of 0 has no room for any token");
    const std::string_view first(text, text_size);
    const headway::Encoding made = pair == nullptr
                                       ? tokenizer->tokenizer.encode(first, length, length)
                                       : tokenizer->tokenizer.encode(first, std::string_view(pair, pair_size), length, length);
    std::copy(made.ids.begin(), made.ids.end(), ids);
    std::copy(made.attention_mask.begin(), made.attention_mask.end(), attention_mask);
    std::copy(made.token_type_ids.begin(), made.token_type_ids.end(), token_type_ids);
    return std::count(made.attention_mask.begin(), made.attention_mask.end(), 1);
  } catch (const std::exception& problem) {
    tell(problem.what(), error, error_size);
    return -1;
  }
}
