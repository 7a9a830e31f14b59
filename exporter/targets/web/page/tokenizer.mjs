// Turns text into token ids as the `tokenizers` library does by a tokenizer.json: WordPiece, byte-level BPE and Unigram.
//
// Written after the library's file format. Characters are code points throughout. What depends on the version of Unicode comes
// from unicode.json, which holds the library's own results, so that ids do not depend on the browser.

const SPACE = /[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;
/** Ideographs, each of which is a word for BERT. */
const IDEOGRAPHS = [
  [0x3400, 0x4dbf], [0x4e00, 0x9fff], [0xf900, 0xfaff], [0x20000, 0x2a6df], [0x2a700, 0x2b73f], [0x2b740, 0x2b81f],
  [0x2b920, 0x2ceaf], [0x2f800, 0x2fa1f],
].flat();

/** Reads a tokenizer. Throws an Error naming the first part of it that is not known here. */
export class Tokenizer {
  /**
   * @param file parsed tokenizer.json
   * @param unicode parsed unicode.json
   * @param info `max_length` in tokens, as in headway.json
   */
  constructor(file, unicode, info = {}) {
    const tables = new Tables(unicode);
    this.maxLength = info.max_length ?? Infinity;
    this.normalize = normalizer(file.normalizer, tables);
    this.split = preTokenizer(file.pre_tokenizer, tables);
    this.model = model(file.model);
    this.template = template(file.post_processor);
    const added = file.added_tokens ?? [];
    this.added = new Map(added.map((t) => [t.id, t.content]));
    this.early = new Finder(added.filter((t) => !t.normalized), (t) => t.content);
    this.late = new Finder(added.filter((t) => t.normalized), (t) => this.normalize(t.content));
  }

  /** Token of an id, as the vocabulary has it. */
  token(id) {
    return this.added.get(id) ?? this.model.token(id);
  }

  /**
   * One text, or a pair, cut to `maxLength` tokens: `{ids, types, parts}`, arrays of equal length. `parts` says where a token
   * comes from: 0 the text, 1 its pair, null neither (a special token).
   */
  encode(text, pair = null) {
    const parts = [this.#ids(text), ...(pair === null ? [] : [this.#ids(pair)])];
    const pieces = pair === null ? this.template.single : this.template.pair;
    cut(parts, this.maxLength - special(pieces));
    return this.#built(parts, pieces);
  }

  /** A question with all of its context, as encodings that each repeat the question; neighbors share `stride` tokens. */
  windows(question, context, stride = Math.min(this.maxLength >> 1, 128)) {
    const [asked, read] = [this.#ids(question), this.#ids(context)];
    const room = this.maxLength - special(this.template.pair) - asked.length;
    if (read.length <= room) return [this.#built([asked, read], this.template.pair)];
    if (room < 1) throw new Error(`the question leaves no room for its text within ${this.maxLength} tokens; ask a shorter one`);
    const step = room - Math.min(stride, room >> 1);
    const found = [];
    for (let at = 0; at === 0 || at - step + room < read.length; at += step) {
      found.push(this.#built([asked, read.slice(at, at + room)], this.template.pair));
    }
    return found;
  }

  #built(parts, pieces) {
    const found = { ids: [], types: [], parts: [] };
    for (const piece of pieces) {
      for (const id of piece.ids ?? parts[piece.part]) {
        found.ids.push(id);
        found.types.push(piece.type);
        found.parts.push(piece.part ?? null);
      }
    }
    return found;
  }

  #ids(text) {
    const ids = [];
    let first = true;
    for (const [raw, early] of this.early.cut(text)) {
      const sections = early === null ? this.late.cut(this.normalize(raw)) : [[raw, early]];
      for (const [section, token] of sections) {
        if (token !== null) ids.push(token.id);
        else if (section !== "") for (const word of this.split([section], first)) this.model.encode(word, ids);
        first = false;
      }
    }
    return ids;
  }
}

/** How many special tokens a template adds. */
function special(pieces) {
  return pieces.reduce((n, p) => n + (p.ids?.length ?? 0), 0);
}

class Tables {
  constructor(unicode) {
    for (const name of ["space", "control", "accent", "mark", "punctuation", "letter", "number", "newer"]) {
      this[name] = (c) => inRanges(unicode[name], c);
    }
    this.lower = new Map(unicode.lower.map(([from, ...to]) => [from, String.fromCodePoint(...to)]));
  }

  lowercase(text) {
    return each(text, (c, s) => this.lower.get(c) ?? s);
  }

  /** Normalizes the characters that the library knows; those that it does not know stay as they are, and separate the others. */
  normal(text, form) {
    let [made, known] = ["", ""];
    for (const s of text) {
      if (!this.newer(s.codePointAt(0))) {
        known += s;
        continue;
      }
      made += known.normalize(form) + s;
      known = "";
    }
    return made + known.normalize(form);
  }
}

/** Whether a code point lies in `[first, last, first, last, …]`, ascending. */
function inRanges(ranges, c) {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle] < c) low = middle + 1;
    else high = middle;
  }
  return low % 2 === 1 || ranges[low] === c;
}

function each(text, change) {
  let made = "";
  for (const s of text) made += change(s.codePointAt(0), s);
  return made;
}

function unknown(what, kind) {
  return new Error(`tokenizer.json: ${what} ${kind} is not known to Headway's page; transformers.js may read it`);
}

// ---- normalizers

function normalizer(spec, tables) {
  if (!spec) return (text) => text;
  switch (spec.type) {
    case "Sequence": {
      const steps = spec.normalizers.map((s) => normalizer(s, tables));
      return (text) => steps.reduce((t, step) => step(t), text);
    }
    case "BertNormalizer":
      return bertNormalizer(spec, tables);
    case "Lowercase":
      return (text) => tables.lowercase(text);
    case "StripAccents":
      return (text) => each(text, (c, s) => (tables.mark(c) ? "" : s));
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD":
      return (text) => tables.normal(text, spec.type);
    case "Strip": {
      const [left, right] = [spec.strip_left, spec.strip_right];
      return (text) => {
        const characters = [...text];
        while (left && characters.length && SPACE.test(characters[0])) characters.shift();
        while (right && characters.length && SPACE.test(characters.at(-1))) characters.pop();
        return characters.join("");
      };
    }
    case "Prepend":
      return (text) => (text === "" ? text : spec.prepend + text);
    case "Replace": {
      const pattern = expression(spec.pattern);
      return (text) => text.replaceAll(pattern, () => spec.content);
    }
    case "Precompiled":
      return precompiled(spec.precompiled_charsmap);
    default:
      throw unknown("normalizer", spec.type);
  }
}

function bertNormalizer(spec, tables) {
  const strip = spec.strip_accents ?? spec.lowercase;
  return (text) => {
    if (spec.clean_text) text = each(text, (c, s) => (tables.control(c) ? "" : tables.space(c) ? " " : s));
    if (spec.handle_chinese_chars) text = each(text, (c, s) => (inRanges(IDEOGRAPHS, c) ? ` ${s} ` : s));
    if (strip) text = each(tables.normal(text, "NFD"), (c, s) => (tables.accent(c) ? "" : s));
    return spec.lowercase ? tables.lowercase(text) : text;
  };
}

/** A pattern of tokenizer.json as a global expression with the library's idea of white space. */
function expression(pattern) {
  if (pattern.String !== undefined) return pattern.String;
  const source = pattern.Regex.replaceAll("\\s", SPACE.source).replaceAll("\\S", SPACE.source.replace("[", "[^"));
  return new RegExp(source, "gu");
}

/** SentencePiece's rules of replacement: a double-array trie and the texts it points to, base64. */
function precompiled(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const size = view.getUint32(0, true);
  const unit = (i) => view.getUint32(4 + 4 * i, true);
  const offset = (u) => (u >>> 10) << ((u & 0x200) >>> 6);
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  const found = (text) => {
    let at = 0;
    let node = unit(0);
    at ^= offset(node);
    for (const byte of encoder.encode(text)) {
      if (byte === 0) break;
      at ^= byte;
      if (4 * at + 4 > size) return null;
      node = unit(at);
      if ((node & 0x800000ff) >>> 0 !== byte) return null;
      at ^= offset(node);
      if ((node >>> 8) & 1) {
        const start = 4 + size + (unit(at) & 0x7fffffff);
        return decoder.decode(bytes.subarray(start, bytes.indexOf(0, start)));
      }
    }
    return null;
  };
  const graphemes = new Intl.Segmenter("und", { granularity: "grapheme" });
  return (text) => {
    let made = "";
    for (const { segment } of graphemes.segment(text)) {
      const whole = encoder.encode(segment).length < 6 ? found(segment) : null;
      made += whole ?? [...segment].map((s) => found(s) ?? s).join("");
    }
    return made;
  };
}

// ---- splitting text into words

/** A function of a list of pieces and whether they begin the text, to a list of pieces. */
function preTokenizer(spec, tables) {
  if (!spec) return (pieces) => pieces;
  switch (spec.type) {
    case "Sequence": {
      const steps = spec.pretokenizers.map((s) => preTokenizer(s, tables));
      return (pieces, first) => steps.reduce((p, step) => step(p, first), pieces);
    }
    case "BertPreTokenizer":
      return (pieces) => pieces.flatMap((p) => bertWords(p, tables));
    case "WhitespaceSplit":
      return (pieces) => pieces.flatMap((p) => p.split(new RegExp(`${SPACE.source}+`)).filter((w) => w !== ""));
    case "ByteLevel":
      return (pieces) => pieces.flatMap((p) => byteLevel(p, spec, tables));
    case "Metaspace":
      return (pieces, first) => pieces.flatMap((p, i) => metaspace(p, spec, first && i === 0));
    case "Digits":
      return (pieces) => pieces.flatMap((p) => p.match(spec.individual_digits ? /\p{N}|\P{N}+/gu : /\p{N}+|\P{N}+/gu) ?? []);
    case "Split":
      return (pieces) => pieces.flatMap((p) => splitBy(p, spec));
    default:
      throw unknown("pre-tokenizer", spec.type);
  }
}

function bertWords(text, tables) {
  const words = [];
  let word = "";
  const end = () => {
    if (word !== "") words.push(word);
    word = "";
  };
  for (const s of text) {
    if (SPACE.test(s)) end();
    else if (tables.punctuation(s.codePointAt(0))) {
      end();
      words.push(s);
    } else word += s;
  }
  end();
  return words;
}

/** Pieces as GPT-2 splits them: `'s` and its like, letters, numbers, other signs, each with one space before, and runs of spaces. */
function gpt2(text, tables) {
  const characters = [...text];
  const kinds = characters.map((s) => {
    const c = s.codePointAt(0);
    return SPACE.test(s) ? "space" : tables.letter(c) ? "letter" : tables.number(c) ? "number" : "other";
  });
  const pieces = [];
  for (let i = 0; i < characters.length; ) {
    const ending = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].find((e) => [...e].every((s, k) => characters[i + k] === s));
    let end = i + (ending?.length ?? 0);
    if (!ending) {
      const start = characters[i] === " " && i + 1 < characters.length && kinds[i + 1] !== "space" ? i + 1 : i;
      end = start;
      while (end < characters.length && kinds[end] === kinds[start]) end++;
      if (kinds[start] === "space" && end < characters.length && end - start > 1) end--; // the last belongs to the next word
    }
    pieces.push(characters.slice(i, end).join(""));
    i = end;
  }
  return pieces;
}

/** Bytes as the printable characters that represent them in byte-level vocabularies. */
const BYTES = (() => {
  const plain = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(plain(b) ? b : next++));
})();

function byteLevel(text, spec, tables) {
  if (spec.add_prefix_space && !text.startsWith(" ")) text = ` ${text}`;
  const pieces = (spec.use_regex ?? true) ? gpt2(text, tables) : [text];
  const encoder = new TextEncoder();
  return pieces.map((p) => Array.from(encoder.encode(p), (b) => BYTES[b]).join(""));
}

function metaspace(text, spec, first) {
  const sign = spec.replacement;
  const scheme = spec.prepend_scheme ?? (spec.add_prefix_space === false ? "never" : "always");
  let marked = text.replaceAll(" ", sign);
  if ((scheme === "always" || (scheme === "first" && first)) && !marked.startsWith(sign)) marked = sign + marked;
  if (spec.split === false) return [marked];
  return marked.split(new RegExp(`(?=${sign})`, "u")).filter((p) => p !== "");
}

function splitBy(text, spec) {
  const pattern = expression(spec.pattern);
  const found = typeof pattern === "string" ? null : pattern;
  const pieces = [];
  let at = 0;
  const push = (piece, match) => piece !== "" && pieces.push([piece, match]);
  const matches = found ? [...text.matchAll(found)].map((m) => [m.index, m[0]]) : occurrences(text, pattern);
  for (const [index, match] of matches) {
    push(text.slice(at, index), false);
    push(match, true);
    at = index + match.length;
  }
  push(text.slice(at), false);
  const marked = spec.invert ? pieces.map(([p, m]) => [p, !m]) : pieces;
  switch (spec.behavior) {
    case "Removed":
      return marked.filter(([, m]) => !m).map(([p]) => p);
    case "Isolated":
      return marked.map(([p]) => p);
    default:
      throw unknown("behavior of Split,", spec.behavior);
  }
}

function occurrences(text, needle) {
  const found = [];
  for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + needle.length)) found.push([at, needle]);
  return found;
}

// ---- vocabularies

function model(spec) {
  const kind = spec.type ?? (Array.isArray(spec.vocab) ? "Unigram" : spec.merges ? "BPE" : "WordPiece");
  switch (kind) {
    case "WordPiece":
      return new WordPiece(spec);
    case "BPE":
      return new BPE(spec);
    case "Unigram":
      return new Unigram(spec);
    default:
      throw unknown("model", kind);
  }
}

class Vocabulary {
  constructor(entries) {
    this.ids = new Map(entries);
    this.tokens = new Map(Array.from(this.ids, ([token, id]) => [id, token]));
  }

  token(id) {
    return this.tokens.get(id);
  }
}

class WordPiece extends Vocabulary {
  constructor(spec) {
    super(Object.entries(spec.vocab));
    this.spec = spec;
    this.unknown = this.ids.get(spec.unk_token);
  }

  encode(word, ids) {
    const characters = [...word];
    const found = [];
    for (let start = 0; start < characters.length; ) {
      if (characters.length > this.spec.max_input_chars_per_word) break;
      let end = characters.length;
      let id;
      for (; end > start; end--) {
        const piece = characters.slice(start, end).join("");
        id = this.ids.get(start > 0 ? this.spec.continuing_subword_prefix + piece : piece);
        if (id !== undefined) break;
      }
      if (id === undefined) break;
      found.push(id);
      start = end;
      if (start === characters.length) return ids.push(...found);
    }
    ids.push(this.unknown);
  }
}

class BPE extends Vocabulary {
  constructor(spec) {
    super(Object.entries(spec.vocab));
    this.spec = spec;
    if (spec.byte_fallback) throw unknown("model BPE with", "byte_fallback");
    const pairs = spec.merges.map((m) => (typeof m === "string" ? m.split(" ") : m));
    this.ranks = new Map(pairs.map(([a, b], rank) => [`${a} ${b}`, rank]));
    this.unknown = this.ids.get(spec.unk_token);
    this.known = new Map();
  }

  encode(word, ids) {
    let found = this.known.get(word);
    if (found === undefined) {
      found = this.#pieces(word);
      if (this.known.size < 10_000) this.known.set(word, found);
    }
    ids.push(...found);
  }

  #pieces(word) {
    if (this.spec.ignore_merges && this.ids.has(word)) return [this.ids.get(word)];
    const prefix = this.spec.continuing_subword_prefix ?? "";
    const suffix = this.spec.end_of_word_suffix ?? "";
    let parts = [...word].map((s, i, all) => (i ? prefix : "") + s + (i === all.length - 1 ? suffix : ""));
    parts = parts.map((p) => (this.ids.has(p) ? p : null));
    for (;;) {
      let [best, at] = [Infinity, -1];
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = parts[i] !== null && parts[i + 1] !== null ? this.ranks.get(`${parts[i]} ${parts[i + 1]}`) : undefined;
        if (rank !== undefined && rank < best) [best, at] = [rank, i];
      }
      if (at < 0) break;
      parts.splice(at, 2, parts[at] + parts[at + 1].slice(prefix.length));
    }
    const found = [];
    parts.forEach((p, i) => {
      if (p !== null) found.push(this.ids.get(p));
      else if (this.unknown !== undefined && !(this.spec.fuse_unk && i > 0 && parts[i - 1] === null)) found.push(this.unknown);
    });
    return found;
  }
}

/** The likeliest pieces, found by dynamic programming over positions. */
class Unigram extends Vocabulary {
  constructor(spec) {
    super(spec.vocab.map(([token], id) => [token, id]).reverse());
    this.scores = spec.vocab.map(([, score]) => score);
    this.unknown = spec.unk_id;
    if (spec.byte_fallback) throw unknown("model Unigram with", "byte_fallback");
    this.unlikely = this.scores.reduce((a, b) => Math.min(a, b), Infinity) - 10;
    this.longest = spec.vocab.reduce((n, [token]) => Math.max(n, [...token].length), 0);
  }

  encode(word, ids) {
    const characters = [...word];
    const n = characters.length;
    const best = Array.from({ length: n + 1 }, () => ({ score: 0, start: -1, id: 0 }));
    const offer = (end, start, id, score) => {
      if (best[end].start < 0 || score > best[end].score) best[end] = { score, start, id };
    };
    for (let start = 0; start < n; start++) {
      const before = best[start].score;
      let piece = "";
      let single = false;
      for (let end = start + 1; end <= Math.min(n, start + this.longest); end++) {
        piece += characters[end - 1];
        const id = this.ids.get(piece);
        if (id === undefined) continue;
        offer(end, start, id, this.scores[id] + before);
        single ||= end === start + 1;
      }
      if (!single) offer(start + 1, start, this.unknown, this.unlikely + before);
    }
    const found = [];
    for (let end = n; end > 0; end = best[end].start) {
      const id = best[end].id;
      if (id !== this.unknown || found.at(-1) !== id) found.push(id); // adjacent unknown pieces become one
    }
    ids.push(...found.reverse());
  }
}

// ---- around the words

/** Finds added tokens in text: the first, and of those that begin there the longest. */
class Finder {
  constructor(tokens, contentOf) {
    this.tokens = tokens.map((t) => ({ ...t, text: contentOf(t) })).filter((t) => t.text !== "");
    this.tokens.sort((a, b) => b.text.length - a.text.length);
  }

  /** Pieces of the text as `[piece, token or null]`. */
  cut(text) {
    if (this.tokens.length === 0) return [[text, null]];
    const pieces = [];
    let begun = 0;
    for (let at = 0; at < text.length; ) {
      const token = this.tokens.find((t) => text.startsWith(t.text, at));
      if (token === undefined || (token.single_word && !alone(text, at, at + token.text.length))) {
        at += token === undefined ? 1 : token.text.length;
        continue;
      }
      let [start, end] = [at, at + token.text.length];
      while (token.lstrip && start > begun && SPACE.test(text[start - 1])) start--;
      while (token.rstrip && end < text.length && SPACE.test(text[end])) end++;
      if (start > begun) pieces.push([text.slice(begun, start), null]);
      pieces.push([token.text, token]);
      begun = at = end;
    }
    if (begun < text.length) pieces.push([text.slice(begun), null]);
    return pieces;
  }
}

function alone(text, start, end) {
  const letter = /[\p{L}\p{M}\p{N}\p{Pc}]/u;
  const before = [...text.slice(Math.max(0, start - 2), start)].at(-1) ?? "";
  const after = String.fromCodePoint(text.codePointAt(end) ?? 32);
  return !letter.test(before) && !letter.test(after);
}

/** Pieces of a result: `{ids, type}` for special tokens, `{part, type}` for the first or the second text. */
function template(spec) {
  const text = (part, type) => ({ part, type });
  const plain = { single: [text(0, 0)], pair: [text(0, 0), text(1, 1)] };
  switch (spec?.type) {
    case undefined:
    case "ByteLevel":
      return plain;
    case "BertProcessing":
    case "RobertaProcessing": {
      const [roberta, end] = [spec.type === "RobertaProcessing", { ids: [spec.sep[1]], type: 0 }];
      const single = [{ ids: [spec.cls[1]], type: 0 }, text(0, 0), end];
      const second = roberta ? [end, text(1, 0), end] : [text(1, 1), { ...end, type: 1 }];
      return { single, pair: [...single, ...second] };
    }
    case "TemplateProcessing": {
      const pieces = (list) =>
        list.map((piece) => {
          if (piece.Sequence) return text(piece.Sequence.id === "A" ? 0 : 1, piece.Sequence.type_id);
          return { ids: spec.special_tokens[piece.SpecialToken.id].ids, type: piece.SpecialToken.type_id };
        });
      return { single: pieces(spec.single), pair: pieces(spec.pair) };
    }
    case "Sequence":
      return spec.processors.map(template).find((t, i) => spec.processors[i].type !== "ByteLevel") ?? plain;
    default:
      throw unknown("post-processor", spec.type);
  }
}

/** Truncates one text, or the longer of two, in place, until `most` tokens are left. */
function cut(parts, most) {
  if (parts.reduce((n, p) => n + p.length, 0) <= most) return;
  if (parts.length === 1) {
    parts[0].length = Math.max(0, most);
    return;
  }
  const swapped = parts[0].length > parts[1].length;
  let [short, long] = parts.map((p) => p.length).sort((a, b) => a - b);
  long = short > most ? short : Math.max(short, most - short);
  if (short + long > most) [short, long] = [Math.floor(most / 2), Math.floor(most / 2) + (most % 2)];
  [parts[0].length, parts[1].length] = swapped ? [long, short] : [short, long];
}
