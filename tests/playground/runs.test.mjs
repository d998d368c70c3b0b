// What the canvas shows is what the API answers.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { ask, browse, denoise, onPage, serve, shown, states, texts } from "./harness.mjs";

const url = await serve();
const browser = await browse();
const run = promisify(execFile);

const PROMPT = "def pop(self):";

test("a completion ends with the text that the API gives for the same seed", () =>
  onPage(browser, url, {}, async (page) => {
    await page.fill("#prompt", PROMPT);
    await denoise(page, { "complete-tokens": 24, seed: 7 });
    const body = { prompt: PROMPT, max_tokens: 24, seed: 7 };
    const { choices, diffusion } = JSON.parse(await ask(url, "/v1/completions", body));
    assert.deepEqual(await texts(page), [PROMPT + choices[0].text]);
    assert.equal(await page.textContent("#number-evaluations"), String(diffusion.forward_passes));
    assert.match(await page.textContent("#live"), new RegExp(`Done: ${diffusion.returned_tokens} tokens`));
  }));

test("several answers stand below each other, whatever the rule", () =>
  onPage(browser, url, {}, async (page) => {
    // One position at a time is a number of steps already.
    for (const [preset, steps] of [["confidence", 8], ["remdm", 8], ["greedy"]]) {
      await page.fill("#prompt", PROMPT);
      await denoise(page, { preset, "complete-tokens": 12, steps: steps ?? "", seed: 3, n: 3, temperature: 0.7 });
      const body = { prompt: PROMPT, max_tokens: 12, seed: 3, n: 3, temperature: 0.7, diffusion: { preset, steps } };
      const { choices } = JSON.parse(await ask(url, "/v1/completions", body));
      assert.deepEqual(await texts(page), choices.map(({ text }) => PROMPT + text), preset);
    }
  }));

test("filled holes stand in the text that the API gives back", () =>
  onPage(browser, url, { hash: "#fill" }, async (page) => {
    await page.fill("#holed", "def ▒▒(x):\n    return ▒▒▒\n");
    await denoise(page, { seed: 5 });
    const segments = ["def ", { length: 2 }, "(x):\n    return ", { length: 3 }, "\n"];
    const { choices } = JSON.parse(await ask(url, "/fill", { segments, seed: 5 }));
    assert.deepEqual(await texts(page), [choices[0].text]);
  }));

/** What each example of the page becomes, by its name. */
const EXAMPLES = {
  "two methods": ["self.items.append(item)", "len(self.items)"],
  "a test for None": ["if default is None:"],
  "a name that is used later": ["open(path) as f:"],
  "a loop": ["for i in range"],
  "enter and exit": ["return self", "self.close()"],
  "an exception": ["except ImportError:"],
};

test("the page opens with a hole, and its examples are filled with sense", () =>
  onPage(browser, url, { hash: "" }, async (page) => {
    assert.equal(await page.getAttribute("#tab-fill", "aria-selected"), "true");
    assert.ok(await page.isVisible("#toy"), "the page says that the model is a toy");
    assert.ok(!(await page.isVisible("#open-key")), "no key is needed here");
    assert.deepEqual(await page.locator("#examples button").allTextContents(), Object.keys(EXAMPLES));
    await page.selectOption("#speed", "live");
    for (const [name, parts] of Object.entries(EXAMPLES)) {
      await page.click(`#examples button:text-is("${name}")`);
      await shown(page);
      const [text] = await texts(page);
      for (const part of parts) assert.ok(text.includes(part), `${name}: ${text}`);
    }
    assert.match(await page.textContent("#preset option:first-child"), /greedy/);
    await page.click("#tab-complete");
    assert.match(await page.textContent("#preset option:first-child"), /exact/);
  }));

test("lengths are searched, and the winner can be watched", () =>
  onPage(browser, url, { hash: "#fill" }, async (page) => {
    await page.fill("#holed", "import os\nimport ▒\n");
    await page.getByLabel("Longest length, hole 1").fill("5");
    await page.getByLabel("Longest length, hole 1").blur();
    await denoise(page, { seed: 5 });
    const segments = ["import os\nimport ", { length: { min: 1, max: 5 } }, "\n"];
    const { choices } = JSON.parse(await ask(url, "/fill", { segments, seed: 5 }));
    assert.deepEqual(await texts(page), [choices[0].text]);
    const best = await page.textContent("[data-best]");
    assert.equal(Number(best.split(":")[0]), choices[0].holes[0].length);
    await page.click("text=Watch the best one");
    await page.waitForFunction(() => document.querySelector("#slider").max > 0);
    await shown(page);
    assert.deepEqual(await texts(page), [choices[0].text], "the same length and seed give the same text");
  }));

test("an instruction is answered", () =>
  onPage(browser, url, { hash: "#instruct" }, async (page) => {
    await page.fill("#instruction", "Add two numbers.");
    await denoise(page, { "instruct-tokens": 16, seed: 2 });
    const body = { messages: [{ role: "user", content: "Add two numbers." }], max_tokens: 16, seed: 2 };
    const { choices } = JSON.parse(await ask(url, "/v1/chat/completions", body));
    assert.deepEqual(await texts(page), [choices[0].message.content]);
  }));

test("a text without streaming is the same one", () =>
  onPage(browser, url, {}, async (page) => {
    await page.fill("#prompt", PROMPT);
    await page.uncheck("#stream");
    await denoise(page, { "complete-tokens": 24, seed: 7 });
    const { choices } = JSON.parse(await ask(url, "/v1/completions", { prompt: PROMPT, max_tokens: 24, seed: 7 }));
    assert.deepEqual(await texts(page), [PROMPT + choices[0].text]);
  }));

test("a scored text shows every token with the log-probability that the API gives", () =>
  onPage(browser, url, { hash: "#score" }, async (page) => {
    const text = "for i in range(10):\n    print(i)\n";
    await page.fill("#scored", text);
    await page.click("#go");
    await page.locator("#status[data-state=done]").waitFor();
    const answer = await ask(url, "/v1/completions", { prompt: text, max_tokens: 0, echo: true, logprobs: 3 });
    const { tokens, token_logprobs: logprobs } = JSON.parse(answer).choices[0].logprobs;
    assert.deepEqual(await page.locator(".token").allTextContents(), tokens);
    await page.click("text=Every token");
    const shown = await page.locator("tbody td:nth-child(2)").allTextContents();
    assert.deepEqual(shown, logprobs.map((value) => value.toFixed(2)));
  }));

test("the canvas at step k is the events up to k", () =>
  onPage(browser, url, { hash: "#fill" }, async (page) => {
    const segments = ["def ", { length: 3 }, "(x):\n    return ", { length: 9 }, "\n"];
    await page.fill("#holed", "def ▒▒▒(x):\n    return ▒▒▒▒▒▒▒▒▒\n");
    await denoise(page, { seed: 11, preset: "remdm" });
    const diffusion = { preset: "remdm", stream_states: "delta" };
    const [start, ...rest] = states(await ask(url, "/fill", { segments, seed: 11, stream: true, diffusion }));
    const steps = rest.filter((state) => state.type === "step");
    assert.equal(await page.getAttribute("#slider", "max"), String(steps.length));
    const cells = new Array(start.length).fill("▒");
    for (let k = 0; k < steps.length; k += 1) {
      await page.locator("#slider").fill(String(k));
      const [first, second] = start.holes.map(({ position, length }) => cells.slice(position, position + length).join(""));
      assert.deepEqual(await texts(page), [`def ${first}(x):\n    return ${second}\n`], `after step ${k}`);
      const fresh = await page.$$eval(".sheet .cell", (cells) => cells.flatMap((cell, at) => (cell.dataset.state === "new" ? [at] : [])));
      assert.deepEqual(fresh, k ? steps[k - 1].positions.toSorted((a, b) => a - b) : [], `new at step ${k}`);
      steps[k].positions.forEach((at, j) => (cells[at] = steps[k].texts[j]));
      for (const at of steps[k].remasked ?? []) cells[at] = "▒";
    }
  }));

test("a run can be played again, and exported as it came", () =>
  onPage(browser, url, {}, async (page) => {
    await denoise(page, { "complete-tokens": 16, seed: 4 });
    const [whole] = await texts(page);
    await page.click("#back");
    assert.notEqual((await texts(page))[0], "", "a step back");
    await page.click("#play");
    await shown(page);
    assert.deepEqual(await texts(page), [whole]);
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#export")]);
    const { request, events } = JSON.parse(await readFile(await download.path(), "utf8"));
    const stream = await ask(url, request.path, request.body);
    const own = events.map(({ data }) => data.diffusion).filter((state) => state?.type);
    assert.deepEqual(own, states(stream));
  }));

test("stopping leaves the engine without work", () =>
  onPage(browser, url, {}, async (page) => {
    for (const [id, value] of Object.entries({ "complete-tokens": 200, n: 8, seed: 1 })) await page.fill(`#${id}`, String(value));
    await page.selectOption("#preset", "exact");
    await page.click("#go");
    await page.locator("#status:has-text('Evaluation')").waitFor();
    assert.equal(await page.getAttribute("#output", "aria-busy"), "true");
    await page.click("#stop");
    await page.locator("#status[data-state=stopped]").waitFor();
    assert.equal(await page.getAttribute("#output", "aria-busy"), "false");
    let health;
    do health = await (await fetch(`${url}/health`)).json();
    while (health.running > 0 || health.waiting > 0);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    assert.match(metrics, /unmask_requests_total\{route="\/v1\/completions"[^}]*outcome="cancelled"\} 1/);
    assert.ok((await page.locator(".cell[data-state=open]").count()) > 0, "what was open stays open");
  }));

test("the copied commands print the texts that the page shows", () =>
  onPage(browser, url, {}, async (page) => {
    const prompt = "print('it\\'s', \"<b>\", `x` ,\n";
    await page.fill("#prompt", prompt);
    await denoise(page, { "complete-tokens": 8, seed: 9 });
    const [whole] = await texts(page);
    const generated = whole.slice(prompt.length);
    assert.equal(prompt + generated, whole);
    const printed = async (language, command) => {
      await page.click(`[data-language=${language}]`);
      const snippet = await page.textContent("#snippet");
      return (await run(command[0], [...command.slice(1), snippet])).stdout;
    };
    assert.equal(JSON.parse(await printed("curl", ["bash", "-c"])).choices[0].text, generated, "curl");
    assert.equal(await printed("python", ["python3", "-c"]), `${generated}\n`, "python");
    assert.equal(await printed("js", ["node", "--input-type=module", "-e"]), `${generated}\n`, "js");
  }));

test("the copied commands print messages and scores as well", () =>
  onPage(browser, url, {}, async (page) => {
    const tabs = [
      ["instruct", { "instruct-tokens": 4, seed: 1 }, (answer) => [answer.choices[0].message.content]],
      ["score", {}, ({ choices: [{ logprobs }] }) => logprobs.tokens.map((token, at) => `${logprobs.token_logprobs[at]} ${token}`)],
    ];
    for (const [tab, fields, lines] of tabs) {
      await page.click(`#tab-${tab}`);
      for (const [id, value] of Object.entries(fields)) await page.fill(`#${id}`, String(value));
      await page.click("[data-language=curl]");
      const { stdout } = await run("bash", ["-c", await page.textContent("#snippet")]);
      const expected = lines(JSON.parse(stdout));
      await page.click("[data-language=js]");
      const js = await run("node", ["--input-type=module", "-e", await page.textContent("#snippet")]);
      assert.equal(js.stdout, expected.map((line) => `${line}\n`).join(""), tab);
      await page.click("[data-language=python]");
      const python = await run("python3", ["-c", await page.textContent("#snippet")]);
      // Python writes small numbers otherwise.
      const tokens = (printed) => printed.replaceAll(/^(null|None|-?[\d.e-]+) /gm, "");
      assert.equal(tokens(python.stdout), tokens(js.stdout), tab);
    }
  }));
