// Whatever a server sends is text.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, onPage, serve, shown, texts } from "./harness.mjs";

const url = await serve();
const browser = await browse();

const BOMB = `<img src=x onerror="globalThis.hit = 1"><script>globalThis.hit = 1</script>`;

const event = (data) => `data: ${JSON.stringify(data)}\n\n`;

const chunk = (text, diffusion, finish_reason = null) =>
  event({ object: "text_completion", choices: [{ index: 0, text, logprobs: null, finish_reason }], diffusion });

const report = { forward_passes: 2, rows_computed: 2, returned_tokens: 2, seed: 1 };

const STEP = { type: "step", choice: 0, max_evaluations: 2, token_ids: [1], texts: [BOMB], probabilities: [0.5] };

/** A stream whose states and text are markup. */
const STREAM = [
  chunk("", { type: "start", choice: 0, length: 2, steps: 2, order: "random", mask: BOMB, holes: [{ id: "0", position: 0, length: 2 }] }),
  chunk("", { ...STEP, evaluation: 1, remaining: 1, positions: [0], draft: [[1, BOMB]] }),
  chunk(BOMB),
  chunk("", { ...STEP, evaluation: 2, remaining: 0, positions: [1] }),
  chunk(BOMB),
  chunk("", { type: "end", choice: 0, evaluations: 2, returned_tokens: 2, reason: "full" }),
  chunk("", report, "length"),
  "data: [DONE]\n\n",
].join("");

/** Answers a path with something else than the server does. */
const answer = (path, contentType, body, status = 200) => (page) =>
  page.route(`**${path}`, (route) => route.fulfill({ status, contentType, body }));

/** That none of it has become an element or run. */
async function assertInert(page) {
  assert.equal(await page.locator("img, main script").count(), 0);
  assert.equal(await page.evaluate(() => globalThis.hit), undefined);
}

test("markup in states and text is shown as text", () =>
  onPage(browser, url, { before: answer("/v1/completions", "text/event-stream", STREAM) }, async (page) => {
    await page.fill("#prompt", BOMB);
    await page.check("#drafts");
    await page.click("#go");
    await shown(page);
    assert.deepEqual(await texts(page), [BOMB.repeat(3)]);
    await page.click("#back");
    await page.locator("[data-guess]").waitFor();
    await page.hover(".cell[data-state=new]");
    await page.locator(".tip:visible").waitFor();
    await assertInert(page);
  }));

test("markup in the model’s name and in an error is shown as text", () => {
  const model = {
    id: BOMB, max_model_len: 8, capabilities: ["completion", BOMB], meta: { n_params: 1 },
    diffusion: { default_steps: 1, orders: [BOMB] }, sampling_defaults: { temperature: 1 },
  };
  const error = { message: BOMB, type: "x", param: `"] ${BOMB}`, code: BOMB };
  const before = async (page) => {
    await answer("/v1/models", "application/json", JSON.stringify({ data: [model] }))(page);
    await answer("/v1/completions", "application/json", JSON.stringify({ error }), 400)(page);
  };
  return onPage(browser, url, { before, expected: ["400 (Bad Request)"] }, async (page) => {
    assert.ok((await page.textContent("#model")).includes(BOMB));
    await page.click("#go");
    await page.locator("#alert").waitFor();
    assert.equal(await page.textContent("#alert"), BOMB);
    await assertInert(page);
  });
});

test("markup in scored tokens is shown as text", () => {
  const logprobs = { tokens: [BOMB], token_logprobs: [-1], top_logprobs: [{ [BOMB]: -1, [`${BOMB}2`]: -2 }], text_offset: [0] };
  const body = JSON.stringify({ choices: [{ index: 0, text: BOMB, logprobs, finish_reason: "length" }], diffusion: report });
  return onPage(browser, url, { hash: "#score", before: answer("/v1/completions", "application/json", body) }, async (page) => {
    await page.click("#go");
    await page.click("text=Every token");
    assert.deepEqual(await page.locator(".token").allTextContents(), [BOMB]);
    await assertInert(page);
  });
});

const VIOLATION = "require-trusted-types-for: trusted-types-sink";

test("the policy refuses markup even from a script of the page", () =>
  onPage(browser, url, { violated: [VIOLATION], expected: ["TrustedHTML"] }, async (page) => {
    const refused = await page.evaluate(() => {
      try {
        document.body.innerHTML = "<b>";
        return "";
      } catch (error) {
        return error.name;
      }
    });
    assert.equal(refused, "TypeError");
    await page.waitForFunction(() => globalThis.violations.length > 0);
  }));
