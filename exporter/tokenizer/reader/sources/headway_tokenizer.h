// Turns text into token ids on a phone, exactly as the tokenizer that the model was made with. One header, one source file, C++17, no
// dependencies; C and Swift use the functions at the end. Reads the file that
// `headway.exporter.tokenizer.reader.write_reader` writes.
// It is our own because the tokenizers library would bring Rust into the build of every app, and onnxruntime-extensions gives other
// ids on much text beyond ASCII.

#ifndef HEADWAY_TOKENIZER_H_
#define HEADWAY_TOKENIZER_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace headway {

// Thrown for a file that is damaged or of another version, text that is not UTF-8, and a length too small for the special tokens.
class TokenizerError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One value per token in each; a model's inputs are these with a batch dimension of 1.
struct Encoding {
  std::vector<int64_t> ids, attention_mask, token_type_ids;
};

// Does not change once it is open: any number of threads may encode with the same one.
class Tokenizer {
 public:
  // `data` is not needed afterwards. Throws TokenizerError.
  Tokenizer(const void* data, size_t size);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // UTF-8 text, or text and its pair, cut to `longest` tokens (0: max_length()) and padded to `padded` (0: not padded).
  // Throws TokenizerError.
  Encoding encode(std::string_view text, size_t longest = 0, size_t padded = 0) const;
  Encoding encode(std::string_view text, std::string_view pair, size_t longest = 0, size_t padded = 0) const;

  size_t max_length() const;  // tokens that the model takes

 private:
  struct Parts;
  Encoding build(std::string_view text, const std::string_view* pair, size_t longest, size_t padded) const;
  std::unique_ptr<const Parts> parts_;
};

}  // namespace headway

extern "C" {
#endif  // __cplusplus

typedef struct headway_tokenizer headway_tokenizer;

// NULL where the file cannot be used, with the reason in `error` (NUL-terminated, cut to `error_size`).
headway_tokenizer* headway_tokenizer_open(const void* data, size_t size, char* error, size_t error_size);
void headway_tokenizer_close(headway_tokenizer* tokenizer);
size_t headway_tokenizer_max_length(const headway_tokenizer* tokenizer);

// Fills `length` values in each array: the tokens, at most `length` of them, then padding. `pair` may be NULL. Returns how many
// tokens there are, or -1 with the reason in `error`.
int64_t headway_tokenizer_encode(const headway_tokenizer* tokenizer, const char* text, size_t text_size, const char* pair,
                                 size_t pair_size, size_t length, int64_t* ids, int64_t* attention_mask,
                                 int64_t* token_type_ids, char* error, size_t error_size);

#ifdef __cplusplus
}
#endif

#endif  // HEADWAY_TOKENIZER_H_
