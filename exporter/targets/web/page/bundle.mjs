// Opens a bundle with onnxruntime-web: text in, outputs out. Runs in browsers and in Node.

import { Tokenizer } from "./tokenizer.mjs";

/** Options of onnxruntime-web, from those that headway.json stores for a session. */
export function sessionOptions(stored, executionProviders = ["wasm"]) {
  const extra = {};
  const put = (key, value) => {
    const [group, ...rest] = key.split(".");
    (extra[group] ??= {})[rest.join(".")] = value;
  };
  for (const [key, value] of Object.entries(stored.config ?? {})) put(key, value);
  if (stored.disabled_optimizers?.length) put("optimization.disable_specified_optimizers", stored.disabled_optimizers.join(";"));
  return { executionProviders, graphOptimizationLevel: stored.graph_optimization_level ?? "all", extra };
}

export class Bundle {
  /**
   * @param ort the onnxruntime-web module
   * @param read `(name, json) => Promise` of a file of the bundle, as bytes or parsed
   */
  static async open(ort, read) {
    const manifest = await read("headway.json", true);
    const [file, unicode, bytes] = await Promise.all([
      read(manifest.tokenizer.file, true),
      read("web/unicode.json", true),
      read(manifest.artifact, false),
    ]);
    const tokenizer = new Tokenizer(file, unicode, manifest.tokenizer);
    const session = await ort.InferenceSession.create(bytes, sessionOptions(manifest.session_options));
    return new Bundle(ort, manifest, tokenizer, session);
  }

  constructor(ort, manifest, tokenizer, session) {
    Object.assign(this, { ort, manifest, tokenizer, session });
  }

  get task() {
    return this.manifest.task;
  }

  label(index) {
    return this.manifest.labels[String(index)] ?? `LABEL_${index}`;
  }

  /** One text, or a pair: outputs by name as `{data, dims}`, the encoding, and the milliseconds that each part took. */
  async run(text, pair = null) {
    const begun = performance.now();
    const encoding = this.tokenizer.encode(text, pair);
    const encoded = performance.now();
    const outputs = await this.runIds([encoding]);
    return { outputs, encoding, ms: { tokenizer: encoded - begun, model: performance.now() - encoded } };
  }

  /** Encodings of equal length, as one batch; with `choices`, as the choices of one question. */
  async runIds(encodings, choices = false) {
    const length = encodings[0].ids.length;
    const dims = choices ? [1, encodings.length, length] : [encodings.length, length];
    const columns = {
      input_ids: (e) => e.ids,
      attention_mask: (e) => e.mask ?? e.ids.map(() => 1),
      token_type_ids: (e) => e.types,
    };
    const feeds = {};
    for (const { name } of this.manifest.inputs) {
      const values = encodings.flatMap(columns[name]);
      feeds[name] = new this.ort.Tensor("int64", BigInt64Array.from(values, BigInt), dims);
    }
    return this.session.run(feeds);
  }

  /** Embeddings: the vector of a text, as the model pools it, or the mean of its tokens. */
  async embed(text) {
    const { outputs, encoding, ms } = await this.run(text);
    const pooled = outputs.sentence_embedding;
    if (pooled) return { vector: pooled.data, tokens: encoding.ids.length, ms };
    const { data, dims } = outputs.last_hidden_state;
    const vector = new Float32Array(dims[2]);
    for (let i = 0; i < data.length; i++) vector[i % dims[2]] += data[i] / dims[1];
    return { vector, tokens: encoding.ids.length, ms };
  }

  /** Similarity of two texts by the function that the manifest names; the cosine of their vectors where it names none. */
  async similarity(text, other) {
    const [a, b] = [await this.embed(text), await this.embed(other)];
    const ms = { tokenizer: a.ms.tokenizer + b.ms.tokenizer, model: a.ms.model + b.ms.model };
    return { similarity: SIMILARITIES[this.manifest.similarity || "cosine"](a.vector, b.vector), tokens: a.tokens + b.tokens, ms };
  }

  /** How logits become scores: the manifest's words, or for older ones by the number of labels. */
  scoring(columns) {
    const stored = this.manifest.scoring;
    if (stored?.kind) return stored;
    return columns > 1 ? { kind: "single-label", activation: "softmax" } : { kind: "value", activation: "sigmoid" };
  }

  /** Text classification: every label with its score, the largest first. `kind` says whether one label holds, or several, or values. */
  async classify(text, pair = null) {
    const { outputs, encoding, ms } = await this.run(text, pair);
    const { kind, activation } = this.scoring(outputs.logits.data.length);
    const scores = Array.from(activate(outputs.logits.data, activation), (score, i) => ({ label: this.label(i), score }));
    return { scores: scores.sort((a, b) => b.score - a.score), kind, activation, tokens: encoding.ids.length, ms };
  }

  /** Token classification: each token with its likeliest label and that label's probability. */
  async tag(text) {
    const { outputs, encoding, ms } = await this.run(text);
    const [, , width] = outputs.logits.dims;
    const tags = encoding.ids.map((id, i) => {
      const row = softmax(outputs.logits.data.subarray(i * width, (i + 1) * width));
      const best = argmax(row);
      return { token: this.tokenizer.token(id), label: this.label(best), score: row[best] };
    });
    return { tags: tags.filter((_, i) => encoding.parts[i] !== null), tokens: encoding.ids.length, ms };
  }

  /** Fill-mask: the likeliest tokens at the first mask. */
  async fill(text, count = 5) {
    const { outputs, encoding, ms } = await this.run(text);
    const at = encoding.ids.indexOf(this.maskId);
    if (at < 0) throw new Error(`the text has no ${this.tokenizer.token(this.maskId)} to fill`);
    const [, , width] = outputs.logits.dims;
    const row = softmax(outputs.logits.data.subarray(at * width, (at + 1) * width));
    const order = Array.from(row, (score, id) => ({ label: this.tokenizer.token(id) ?? "", score })); // spare rows have no token
    const scores = order.sort((a, b) => b.score - a.score).slice(0, count);
    return { scores, tokens: encoding.ids.length, ms };
  }

  get maskId() {
    const stored = this.manifest.tokenizer.mask_id;
    if (stored !== undefined && stored !== null) return stored;
    for (const [id, token] of this.tokenizer.added) if (/mask/i.test(token)) return id;
    throw new Error("the tokenizer has no token for a mask");
  }

  /**
   * Question answering: the best span of the context, as its tokens, and the sum of its logits. A context that is longer than the
   * model takes is read in windows, of which neighbors have `stride` tokens in common.
   */
  async answer(question, context, longest = 30, stride = undefined) {
    if (!context.trim()) throw new Error("the context is empty, and an answer is a part of it");
    const begun = performance.now();
    const windows = this.tokenizer.windows(question, context, stride);
    const encoded = performance.now();
    let best = { score: -Infinity, ids: [] };
    for (const window of windows) {
      const outputs = await this.runIds([window]);
      const found = bestSpan(outputs.start_logits.data, outputs.end_logits.data, window.parts, longest);
      if (found.score > best.score) best = { score: found.score, ids: window.ids.slice(found.start, found.end + 1) };
    }
    const tokens = windows.reduce((sum, window) => sum + window.ids.length, 0);
    const ms = { tokenizer: encoded - begun, model: performance.now() - encoded };
    return { answer: best.ids.map((id) => this.tokenizer.token(id)), score: best.score, tokens, ms };
  }

  /** Multiple choice: every option with its probability, in their order. */
  async choose(question, options) {
    if (options.length === 0) throw new Error("give at least one option");
    const begun = performance.now();
    const encodings = options.map((option) => this.tokenizer.encode(question, option));
    const longest = Math.max(...encodings.map((e) => e.ids.length));
    const info = this.manifest.tokenizer;
    const fill = (values, value) => [...values, ...Array(longest - values.length).fill(value)];
    const padded = encodings.map((e) => ({
      ids: fill(e.ids, info.pad_id),
      types: fill(e.types, info.pad_type_id),
      mask: fill(e.ids.map(() => 1), 0),
    }));
    const encoded = performance.now();
    const outputs = await this.runIds(padded, true);
    const scores = Array.from(softmax(outputs.logits.data), (score, i) => ({ label: options[i], score }));
    const ms = { tokenizer: encoded - begun, model: performance.now() - encoded };
    return { scores, tokens: longest * options.length, ms };
  }
}

/** The span of the context, at most `longest` tokens, with the largest sum of logits. */
function bestSpan(starts, ends, parts, longest) {
  const inside = parts.map((part) => part === 1);
  let best = { score: -Infinity, start: 0, end: -1 };
  for (let start = 0; start < inside.length; start++) {
    for (let end = start; inside[start] && end < Math.min(inside.length, start + longest) && inside[end]; end++) {
      const score = starts[start] + ends[end];
      if (score > best.score) best = { score, start, end };
    }
  }
  return best;
}

/** Scores of logits by the name of an activation. */
export function activate(logits, activation) {
  const known = { softmax, sigmoid: each(sigmoid), tanh: each(Math.tanh), identity: each((x) => x) };
  if (!known[activation]) throw new Error(`headway.json: the activation ${activation} is not known to this page`);
  return known[activation](logits);
}

const each = (change) => (logits) => Float64Array.from(logits, change);
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

export function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const raised = Float64Array.from(logits, (x) => Math.exp(x - most));
  const sum = raised.reduce((a, b) => a + b, 0);
  return raised.map((x) => x / sum);
}

export function cosine(a, b) {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / Math.sqrt(aa * bb);
}

const sumOf = (a, b, term) => a.reduce((sum, x, i) => sum + term(x, b[i]), 0);

/** How vectors are compared, larger for more alike: distances have their sign changed. */
export const SIMILARITIES = {
  cosine,
  dot: (a, b) => sumOf(a, b, (x, y) => x * y),
  euclidean: (a, b) => -Math.sqrt(sumOf(a, b, (x, y) => (x - y) ** 2)),
  manhattan: (a, b) => -sumOf(a, b, (x, y) => Math.abs(x - y)),
};

function argmax(row) {
  return row.reduce((best, x, i) => (x > row[best] ? i : best), 0);
}
