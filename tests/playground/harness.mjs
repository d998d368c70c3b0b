// The real server and a real browser, and the API asked beside the page.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { chromium } from "playwright-core";

/** Long enough for anything; reaching it is a failure. */
export const DEADLINE = 60_000;

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

/** Starts the program on a free port: its address, once it listens. It ends with the tests of the file. */
export const serve = async (flags, environment) => (await start(flags, environment)).url;

/** The same, with the process. */
export function start(flags = [], environment = {}) {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("UNMASK_"));
  const env = { ...Object.fromEntries(own), UNMASK_THREADS: "2", ...environment };
  const server = spawn(process.env.TESTED_PROGRAM, ["serve", "--listen", "127.0.0.1:0", ...flags], {
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  after(() => server.kill());
  const log = [];
  return new Promise((resolve, reject) => {
    // Read to the end, so that the server can go on writing.
    createInterface({ input: server.stderr }).on("line", (line) => {
      log.push(line);
      const url = line.match(/listening on (http:\S+)/)?.[1];
      if (url) resolve({ url, server });
    });
    server.on("exit", () => reject(new Error(`the server does not listen:\n${log.join("\n")}`)));
  });
}

/** A browser with a new, empty user data folder of its own. It ends with the tests of the file. */
export async function browse() {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
  after(() => browser.close());
  return browser;
}

/**
 * Runs a test on a fresh page. Afterwards nothing may have gone wrong in the console but what is `expected`, and the
 * content policy may have been violated only as `violated` says, which is not at all.
 */
export async function onPage(browser, url, options, test) {
  const { hash = "#complete", expected = [], violated = [], before, ...context } = options;
  const opened = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...context });
  opened.setDefaultTimeout(DEADLINE);
  const page = await opened.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`error: ${error}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) wrong.push(`${message.type()}: ${message.text()}`);
  });
  await page.addInitScript(() => {
    globalThis.violations = [];
    addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
      globalThis.violations.push(`${violatedDirective}: ${blockedURI}`);
    });
  });
  await before?.(page);
  await page.goto(`${url}/${hash}`);
  await page.locator("#model:not(:text('…'))").or(page.locator("#alert:visible")).first().waitFor();
  await test(page);
  assert.deepEqual(await page.evaluate(() => globalThis.violations), violated);
  assert.deepEqual(wrong.filter((line) => !expected.some((part) => line.includes(part))), []);
  await opened.close();
}

/** Presses the button and waits until all of the run is shown. */
export async function denoise(page, settings = {}) {
  for (const [id, value] of Object.entries(settings)) {
    const field = page.locator(`#${id}`);
    if ((await field.evaluate((field) => field.tagName)) === "SELECT") await field.selectOption(value);
    else await field.fill(String(value));
  }
  await page.selectOption("#speed", "live");
  await page.click("#go");
  await shown(page);
}

/** Waits until all of a run is shown. */
export async function shown(page) {
  await page.waitForFunction(() => {
    const state = document.querySelector("#status").dataset.state;
    const { value, max } = document.querySelector("#slider");
    return state === "done" && value === max && !document.querySelector("#play").dataset.playing;
  });
}

/** The texts on the canvas, answer by answer. */
export const texts = (page) => page.locator(".sheet").allTextContents();

/** Asks the API itself. */
export async function ask(url, path, body) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(url + path, options);
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return text;
}

/** The denoising states in a stream's text, in order. */
export function states(stream) {
  const data = stream.split("\n").filter((line) => line.startsWith("data: {")).map((line) => JSON.parse(line.slice(6)));
  return data.map((data) => data.state ?? data.diffusion).filter((state) => state?.type);
}
