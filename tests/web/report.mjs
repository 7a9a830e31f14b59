// Opens a report at a phone's and a desk's width, light and dark, and prints what it shows, as one JSON object.
//
//     node report.mjs FILE FOLDER      screenshots go to FOLDER

import { chromium } from "playwright-core";

import { find } from "./chromium.mjs";

const [, , file, folder] = process.argv;
const patience = 180_000; // a busy machine may take minutes for what takes a second
const opened = await chromium.launch({ ...(await find()), timeout: patience });
try {
  const views = {};
  for (const width of [390, 1280]) {
    for (const colorScheme of ["light", "dark"]) {
      const page = await opened.newPage({ viewport: { width, height: 800 }, colorScheme });
      page.setDefaultTimeout(patience);
      const errors = [];
      const requests = [];
      page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
      page.on("pageerror", (error) => errors.push(String(error)));
      page.on("request", (request) => requests.push(request.url()));
      await page.goto(`file://${file}`);
      await page.screenshot({ path: `${folder}/${width}-${colorScheme}.png`, fullPage: true });
      const mark = page.locator("svg .tip:has(.hit)").first();
      let tip = "";
      if (await mark.count()) {
        await mark.scrollIntoViewIfNeeded();
        await mark.locator(".hit").hover();
        tip = await page.locator("#tip").innerText();
      }
      views[`${width} ${colorScheme}`] = await page.evaluate(() => ({
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        first: document.querySelector("main h2").innerText,
        background: getComputedStyle(document.body).backgroundColor,
        columns: getComputedStyle(document.querySelector(".figures") ?? document.body).gridTemplateColumns.split(" ").length,
        letters: Math.min(
          ...Array.from(document.querySelectorAll("svg text"), (text) => parseFloat(getComputedStyle(text).fontSize) * text.getCTM().a),
        ),
        cut: Array.from(document.querySelectorAll("svg")).filter((svg) => {
          const box = svg.viewBox.baseVal;
          return Array.from(svg.querySelectorAll("text")).some((text) => {
            const own = text.getBBox();
            return own.x < -1 || own.x + own.width > box.width + 1 || own.y < -1 || own.y + own.height > box.height + 1;
          });
        }).map((svg) => svg.getAttribute("aria-label")),
        tables: document.querySelectorAll("figure table").length,
        figures: document.querySelectorAll("figure").length,
        injected: globalThis.injected ?? null,
        images: document.images.length,
      }));
      Object.assign(views[`${width} ${colorScheme}`], { tip, errors, requests });
      await page.close();
    }
  }
  console.log(JSON.stringify(views));
} finally {
  await opened.close();
}
