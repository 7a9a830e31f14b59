// The page: text boxes for the task's inputs, the result while one types, and its latency.

import { Bundle } from "./bundle.mjs";

const at = (id) => document.getElementById(id);
const percent = (x) => `${(100 * x).toFixed(1)} %`;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function bars(scores) {
  return scores.slice(0, 6).map(({ label, score }) => {
    const filled = element("i");
    filled.style.width = `${100 * score}%`;
    return element("div", { className: "row" }, element("span", {}, label), element("div", { className: "bar" }, filled), element("b", {}, percent(score)));
  });
}

/** Plain values, each with its label where there are several. */
function values(scores) {
  return scores.flatMap(({ label, score }) => figure(scores.length > 1 ? `${label} ${score.toFixed(3)}` : score.toFixed(3)));
}

function figure(text) {
  return [element("div", { className: "figure" }, text)];
}

function tags(found) {
  const label = ({ label, score }) => element("small", {}, `${label} ${percent(score)}`);
  return [element("div", { className: "tags" }, ...found.map((t) => element("span", {}, t.token, label(t))))];
}

/** By task: a heading, the boxes as `[name, first text]`, the call of the bundle, and how its result is shown. */
const TASKS = {
  embedding: {
    title: "How alike are two texts?",
    boxes: [["First text", "A man is playing a guitar."], ["Second text", "Someone plays music on stage."]],
    ask: (bundle, [a, b]) => bundle.similarity(a, b),
    show: ({ similarity }) => figure(similarity.toFixed(4)),
  },
  "text-classification": {
    title: "What kind of text is this?",
    boxes: [["Text", "What a wonderful film."]],
    ask: (bundle, [text]) => bundle.classify(text),
    show: ({ scores, activation }) => (["softmax", "sigmoid"].includes(activation) ? bars(scores) : values(scores)),
  },
  "token-classification": {
    title: "What is named in this text?",
    boxes: [["Text", "Ada Lovelace lived in London."]],
    ask: (bundle, [text]) => bundle.tag(text),
    show: (answer) => tags(answer.tags),
  },
  "fill-mask": {
    title: "Which word is missing?",
    boxes: [["Text", "The capital of France is [MASK]."]],
    ask: (bundle, [text]) => bundle.fill(text),
    show: ({ scores }) => bars(scores),
  },
  "question-answering": {
    title: "Where does this text answer the question?",
    boxes: [["Question", "Where did Ada live?"], ["Text", "Ada Lovelace lived in London and wrote the first program."]],
    ask: (bundle, [question, text]) => bundle.answer(question, text),
    show: ({ answer }) => figure(answer.map((t) => (t.startsWith("##") ? t.slice(2) : ` ${t}`)).join("").trim()),
  },
  "multiple-choice": {
    title: "Which answer fits best?",
    boxes: [["Question", "Why is the street wet?"], ["Options, one a line", "It rained.\nIt is Tuesday."]],
    ask: (bundle, [question, options]) => bundle.choose(question, options.split("\n").filter((o) => o.trim() !== "")),
    show: ({ scores }) => bars(scores),
  },
};

/** Loads a file of the bundle, and shows the progress of a large one. */
async function read(name, json) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  if (json) return response.json();
  const total = Number(response.headers.get("Content-Length"));
  const parts = [];
  let got = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    got += value.length;
    at("about").textContent = total ? `${(got / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB` : `${(got / 1e6).toFixed(1)} MB`;
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function runtime() {
  try {
    return await import("onnxruntime-web");
  } catch {
    throw new Error("onnxruntime-web is not beside this page: run npm ci --ignore-scripts in its folder, and load it again");
  }
}

function report(error) {
  at("answer").replaceChildren(element("p", { className: "error" }, error.message));
}

async function start() {
  const begun = performance.now();
  const ort = await runtime();
  ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  const bundle = await Bundle.open(ort, read);
  const { manifest, task } = bundle;
  const kind = TASKS[task] ?? TASKS.embedding;
  const threads = ort.env.wasm.numThreads;
  at("title").textContent = document.title = kind.title;
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  const name = manifest.source.model_type ?? "model";
  at("about").textContent = `${name}, ${manifest.artifact.split("/").pop()}, loaded in ${seconds} s, ${threads} thread${threads > 1 ? "s" : ""}`;
  const mask = task === "fill-mask" ? bundle.tokenizer.token(bundle.maskId) : "";
  const boxes = kind.boxes.map(([, text]) => element("textarea", { rows: 2, value: text.replace("[MASK]", mask), spellcheck: false }));
  at("inputs").replaceChildren(...boxes.map((box, i) => element("label", {}, kind.boxes[i][0], box)));
  at("inputs").hidden = false;

  let [asked, busy] = [0, false];
  /** Runs the newest text; text that was typed meanwhile is run next. */
  async function answer() {
    asked++;
    if (busy) return;
    busy = true;
    for (let served = 0; served !== asked; ) {
      served = asked;
      const texts = boxes.map((b) => b.value);
      try {
        const found = await kind.ask(bundle, texts);
        at("answer").replaceChildren(...kind.show(found));
        at("time").textContent = `${found.tokens} tokens, ${found.ms.model.toFixed(1)} ms in the model, ${found.ms.tokenizer.toFixed(1)} ms in the tokenizer`;
        globalThis.headway = { bundle, texts, answer: found };
      } catch (error) {
        report(error);
      }
    }
    busy = false;
  }
  for (const box of boxes) box.addEventListener("input", answer);
  await answer();
}

start().catch(report);
