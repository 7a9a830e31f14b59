// Prints token ids, a JSON list, of the texts (or pairs of texts) on standard input, a JSON list: see exporter/targets/web/page_tokenizer.py.
//
//     node ids.mjs page DIRECTORY MAX_LENGTH               by the page's reader
//     node ids.mjs transformers.js DIRECTORY MAX_LENGTH    by transformers.js's, found as Node finds packages from here

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { Tokenizer } from "./tokenizer.mjs";

const [, , reader, directory, longest] = process.argv;
const json = (...parts) => JSON.parse(fs.readFileSync(path.join(...parts), "utf8"));
const texts = JSON.parse(fs.readFileSync(0, "utf8"));
const file = json(directory, "tokenizer.json");
const readers = {
  page() {
    const unicode = json(path.dirname(fileURLToPath(import.meta.url)), "unicode.json");
    const tokenizer = new Tokenizer(file, unicode, { max_length: Number(longest) });
    return (text) => (Array.isArray(text) ? tokenizer.encode(...text) : tokenizer.encode(text)).ids;
  },
  "transformers.js"() {
    const require = createRequire(path.join(process.cwd(), "here.js"));
    const { Tokenizer: Theirs } = require("@huggingface/tokenizers");
    const tokenizer = new Theirs(file, json(directory, "tokenizer_config.json"));
    const ids = (text) => Array.from(Array.isArray(text) ? tokenizer.encode(text[0], { text_pair: text[1] }).ids : tokenizer.encode(text).ids, Number);
    // It does not truncate texts, its callers do: what is left of a truncated text is compared.
    return (text) => {
      const found = ids(text);
      return found.length > longest ? [...found.slice(0, longest - 1), found.at(-1)] : found;
    };
  },
};
const encode = readers[reader]();
process.stdout.write(JSON.stringify(texts.map(encode)));
