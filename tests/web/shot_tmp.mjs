import { chromium } from "playwright-core";
const b = await chromium.launch({executablePath: process.env.CHROMIUM, args: ["--no-sandbox","--disable-gpu"]});
const p = await b.newPage({viewport:{width:+process.argv[4]||1000,height:+process.argv[5]||350}});
const reqs=[]; p.on("request", r=>{ if(!r.url().startsWith("file:")) reqs.push(r.url()); });
await p.goto(process.argv[2]); await p.waitForTimeout(700); await p.screenshot({path: process.argv[3], fullPage: process.argv[6]==="full"}); console.log("outside requests:", reqs); await b.close();
