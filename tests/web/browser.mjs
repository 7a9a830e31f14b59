// Opens a page in headless Chromium, types texts into its boxes, and prints what it answers, as one JSON object.
//
//     node browser.mjs URL SCREENSHOT TEXT…          the page of a bundle
//     node browser.mjs URL transformers TASK FOLDER TEXT    a bundle below the page, by transformers.js
//     node browser.mjs                               unpacks the browser and says where it is

import { chromium } from "playwright-core";

import { find } from "./chromium.mjs";

async function usePage(page, screenshot, texts) {
  await page.waitForFunction(() => globalThis.headway !== undefined || document.querySelector(".error"));
  const boxes = page.locator("textarea");
  for (const [i, text] of texts.entries()) {
    await boxes.nth(i).fill("");
    await boxes.nth(i).pressSequentially(text);
  }
  await page.waitForFunction((wanted) => JSON.stringify(globalThis.headway?.texts) === JSON.stringify(wanted), texts);
  await page.screenshot({ path: screenshot, fullPage: true });
  return page.evaluate(() => ({
    answer: globalThis.headway.answer,
    shown: document.getElementById("answer").innerText,
    time: document.getElementById("time").innerText,
    about: document.getElementById("about").innerText,
    bars: Array.from(document.querySelectorAll(".bar"), (bar) => bar.firstChild.offsetWidth / bar.offsetWidth),
    isolated: crossOriginIsolated,
  }));
}

/** What transformers.js's pipeline makes of a directory below the page: numbers flat, or labels with scores. */
async function useTransformers(page, task, folder, text) {
  return page.evaluate(
    async ([task, folder, text]) => {
      const { env, pipeline } = await import("@huggingface/transformers");
      env.allowRemoteModels = false;
      env.allowLocalModels = true;
      env.useBrowserCache = false;
      env.localModelPath = "/";
      env.backends.onnx.wasm.wasmPaths = "/node_modules/onnxruntime-web/dist/";
      env.backends.onnx.wasm.numThreads = 1;
      const pipe = await pipeline(task, folder);
      const made = await pipe(text, task === "feature-extraction" ? { pooling: "mean", normalize: true } : { top_k: null });
      return made.data ? Array.from(made.data) : made;
    },
    [task, folder, text],
  );
}

const [, , url, target, ...texts] = process.argv;
const launched = await find();
if (url === undefined) {
  console.log(launched.executablePath);
  process.exit();
}
const opened = await chromium.launch(launched);
try {
  const page = await opened.newPage({ viewport: { width: 390, height: 700 }, deviceScaleFactor: 2 });
  const errors = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(url);
  const made = target === "transformers" ? { made: await useTransformers(page, ...texts) } : await usePage(page, target, texts);
  console.log(JSON.stringify({ ...made, errors }));
} finally {
  await opened.close();
}
