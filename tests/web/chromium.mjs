// Finds the headless Chromium of the tests. CHROMIUM names one; without it, the one that @sparticuz/chromium carries is unpacked once,
// under node_modules.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("node_modules/.chromium", import.meta.url));

/** How playwright launches the browser, with the libraries that this system lacks. */
export async function find() {
  const [executablePath, libraries] = await program();
  const env = libraries ? { ...process.env, LD_LIBRARY_PATH: libraries } : process.env;
  return { executablePath, args: ["--no-sandbox", "--disable-gpu"], env };
}

async function program() {
  if (process.env.CHROMIUM) return [process.env.CHROMIUM, ""];
  mkdirSync(folder, { recursive: true });
  process.env.TMPDIR = folder;
  const { default: packed, inflate } = await import("@sparticuz/chromium");
  const path = await packed.executablePath();
  const missing = execFileSync("ldd", [path]).toString().includes("not found");
  if (missing && !existsSync(`${folder}/al2023`)) {
    await inflate(fileURLToPath(new URL("node_modules/@sparticuz/chromium/bin/al2023.tar.br", import.meta.url)));
  }
  return [path, missing ? `${folder}/al2023/lib` : ""];
}
