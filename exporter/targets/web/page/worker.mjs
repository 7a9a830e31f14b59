// Runs a model in onnxruntime-web's WebAssembly for the process that started this one: see exporter/targets/web/wasm.py.
//
//     node worker.mjs MODEL OPTIONS     OPTIONS as headway.json stores them, JSON
//     node worker.mjs                   prints which versions would run it, and ends
//
// onnxruntime-web is found as Node finds packages from the current folder, NODE_PATH included. A message is four bytes of length,
// JSON of that length, and the arrays that its `tensors` announce.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { sessionOptions } from "./bundle.mjs";

const ARRAYS = { int64: BigInt64Array, float32: Float32Array, float16: Uint16Array, int32: Int32Array };
const require = createRequire(path.join(process.cwd(), "here.js"));
const ort = require("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const versions = { node: process.version, "onnxruntime-web": ort.env.versions.web };

function send(header, arrays = []) {
  const text = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(4);
  size.writeUInt32LE(text.length);
  fs.writeSync(1, size);
  for (const array of [text, ...arrays]) {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let at = 0; at < bytes.length; ) at += fs.writeSync(1, bytes, at);
  }
}

/** Returns exactly `count` bytes of the input; null at its end. */
function receive(count) {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count; ) {
    const got = fs.readSync(0, bytes, at, count - at, null);
    if (got === 0) return null;
    at += got;
  }
  return bytes;
}

function* messages() {
  for (let size; (size = receive(4)) !== null; ) {
    const header = JSON.parse(Buffer.from(receive(Buffer.from(size).readUInt32LE())).toString());
    const tensors = header.tensors.map(({ name, type, dims }) => {
      const count = dims.reduce((a, b) => a * b, 1);
      return [name, new ort.Tensor(type, new ARRAYS[type](receive(count * ARRAYS[type].BYTES_PER_ELEMENT).buffer), dims)];
    });
    yield Object.fromEntries(tensors);
  }
}

const [, , model, options] = process.argv;
if (model === undefined) {
  console.log(JSON.stringify(versions));
} else {
  try {
    const session = await ort.InferenceSession.create(fs.readFileSync(model), sessionOptions(JSON.parse(options)));
    send({ ...versions, inputs: session.inputNames, outputs: session.outputNames });
    for (const feeds of messages()) {
      const outputs = Object.entries(await session.run(feeds));
      const tensors = outputs.map(([name, t]) => ({ name, type: t.type, dims: t.dims }));
      send({ tensors }, outputs.map(([, t]) => t.data));
    }
  } catch (error) {
    send({ error: String(error.message ?? error) });
  }
}
