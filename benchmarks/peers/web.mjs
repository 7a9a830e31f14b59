// Times models in onnxruntime-web in turn, and answers token ids: node web.mjs < JSON {models: {name: [file, options]}, shapes, rounds, texts}
// `texts`: lists of ids whose pooled vectors are given back. onnxruntime-web is found from the current folder, NODE_PATH included.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { sessionOptions } from "../../exporter/targets/web/page/bundle.mjs";

const ort = createRequire(path.join(process.cwd(), "here.js"))("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const { models, shapes, rounds, texts } = JSON.parse(fs.readFileSync(0, "utf8"));

const sessions = {};
const load = {};
for (const [name, [file, options]] of Object.entries(models)) {
  const begun = performance.now();
  sessions[name] = await ort.InferenceSession.create(fs.readFileSync(file), options ? sessionOptions(options) : {});
  load[name] = performance.now() - begun;
}

function feeds(session, rows) {
  const dims = [rows.length, rows[0].length];
  const tensor = (value) => new ort.Tensor("int64", BigInt64Array.from(rows.flat(), value), dims);
  const all = { input_ids: () => tensor(BigInt), attention_mask: () => tensor(() => 1n), token_type_ids: () => tensor(() => 0n) };
  return Object.fromEntries(session.inputNames.map((name) => [name, all[name]()]));
}

const times = {};
for (const [batch, length] of shapes) {
  const rows = Array.from({ length: batch }, (_, b) => Array.from({ length }, (_, i) => 1000 + ((b * length + i) * 7919) % 20000));
  const given = Object.fromEntries(Object.entries(sessions).map(([name, s]) => [name, feeds(s, rows)]));
  const found = (times[`${batch}x${length}`] = Object.fromEntries(Object.keys(sessions).map((name) => [name, []])));
  for (const name in sessions) await sessions[name].run(given[name]);
  for (let round = 0; round < rounds; round++) {
    const order = Object.keys(sessions);
    if (round % 2) order.reverse();
    for (const name of order) {
      const begun = performance.now();
      await sessions[name].run(given[name]);
      found[name].push(performance.now() - begun);
    }
  }
}

const vectors = {};
for (const [name, session] of Object.entries(sessions)) {
  vectors[name] = [];
  for (const ids of texts) {
    const outputs = await session.run(feeds(session, [ids]));
    const { data, dims } = outputs.last_hidden_state ?? outputs.token_embeddings;
    const vector = new Float64Array(dims[2]);
    for (let i = 0; i < data.length; i++) vector[i % dims[2]] += data[i] / dims[1];
    vectors[name].push(Array.from(vector));
  }
}
console.log(JSON.stringify({ times, load, vectors, "onnxruntime-web": ort.env.versions.web, node: process.version }));
