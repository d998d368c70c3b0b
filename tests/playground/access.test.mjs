// Keys, refusals and servers that are gone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, denoise, onPage, serve, start, texts } from "./harness.mjs";

const url = await serve();
const keyed = await serve([], { UNMASK_API_KEY: "sesame-open-please" });
const browser = await browse();

const REFUSED = { expected: ["401 (Unauthorized)"] };

/** Answers the page's question for a key. */
async function enter(page, key, keep = false) {
  await page.locator("#key-dialog[open]").waitFor();
  await page.fill("#key", key);
  await page.setChecked("#keep-key", keep);
  await page.keyboard.press("Enter");
}

test("a server with keys asks for one, and keeps it no longer than the page", () =>
  onPage(browser, keyed, REFUSED, async (page) => {
    await enter(page, "sesame-open-please");
    await page.locator("#model:has-text('unmask-code')").waitFor();
    await denoise(page, { "complete-tokens": 4, seed: 1 });
    assert.equal((await texts(page)).length, 1);
    const snippet = await page.textContent("#snippet");
    assert.ok(snippet.includes("$UNMASK_API_KEY") && !snippet.includes("sesame"), snippet);
    assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length + document.cookie.length), 0);
    await page.reload();
    await page.locator("#key-dialog[open]").waitFor();
  }));

test("a key is kept for the tab when that was chosen, and a wrong one is asked for again", () =>
  onPage(browser, keyed, REFUSED, async (page) => {
    await enter(page, "wrong");
    await page.locator("#alert:has-text('key')").waitFor();
    await enter(page, "sesame-open-please", true);
    await page.locator("#model:has-text('unmask-code')").waitFor();
    await page.reload();
    await page.locator("#model:has-text('unmask-code')").waitFor();
    assert.equal(await page.locator("#key-dialog[open]").count(), 0);
  }));

test("a refusal is shown in the server’s words, at the field that it is about", () =>
  onPage(browser, url, { expected: ["400 (Bad Request)"] }, async (page) => {
    await page.fill("#temperature", "9");
    await page.click("#go");
    await page.locator("#alert").waitFor();
    assert.match(await page.textContent("#alert"), /temperature.*2/);
    assert.equal(await page.getAttribute("#temperature", "aria-invalid"), "true");
    await page.fill("#temperature", "0.5");
    assert.ok(await page.isHidden("#alert"));
    assert.equal(await page.getAttribute("#temperature", "aria-invalid"), null);
  }));

test("numbers beyond all limits are refused by the server and do not fill the page", () =>
  onPage(browser, url, { expected: ["400 (Bad Request)"] }, async (page) => {
    await page.fill("#complete-tokens", "999999999999");
    await page.fill("#n", "999999999999");
    assert.ok((await page.locator(".sheet .cell").count()) < 5000);
    await page.click("#go");
    await page.locator("#alert").waitFor();
    await page.fill("#complete-tokens", "-3.5");
    assert.equal(await page.locator(".sheet .cell").count(), 0);
  }));

test("an overloaded server says when to come back", () => {
  const error = { message: "The queue is full.", type: "server_error", param: null, code: "server_overloaded" };
  const before = (page) =>
    page.route("**/v1/completions", (route) =>
      route.fulfill({ status: 503, headers: { "retry-after": "7" }, contentType: "application/json", body: JSON.stringify({ error }) }),
    );
  return onPage(browser, url, { before, expected: ["503 (Service Unavailable)"] }, async (page) => {
    await page.click("#go");
    await page.locator("#alert").waitFor();
    assert.equal(await page.textContent("#alert"), "The queue is full. Try again in 7 s.");
  });
});

test("a stream that fails or breaks says so, and keeps what was seen", () => {
  const start = { type: "start", choice: 0, length: 2, steps: 2, order: "random", mask: "▒", holes: [{ id: "0", position: 0, length: 2 }] };
  const step = { type: "step", choice: 0, evaluation: 1, max_evaluations: 2, remaining: 1, positions: [0], token_ids: [1], texts: ["a"], probabilities: [0.5] };
  const chunk = (diffusion) => `data: ${JSON.stringify({ choices: [{ index: 0, text: "", finish_reason: null }], diffusion })}\n\n`;
  const begun = chunk(start) + chunk(step);
  const failed = `${begun}data: {"error":{"message":"The server is stopping.","type":"x","param":null,"code":"server_draining"}}\n\ndata: [DONE]\n\n`;
  let body = failed;
  const before = (page) => page.route("**/v1/completions", (route) => route.fulfill({ contentType: "text/event-stream", body }));
  return onPage(browser, url, { before }, async (page) => {
    await page.fill("#prompt", "");
    for (const said of ["The server is stopping.", "The connection broke before the answer was complete."]) {
      await page.click("#go");
      await page.locator(`#alert:has-text("${said}")`).waitFor();
      await page.waitForFunction(() => document.querySelector(".sheet").textContent === "a▒");
      body = begun;
    }
  });
});

test("a server that dies is named as such, in the middle of a run and after", async () => {
  const { url, server } = await start();
  await onPage(browser, url, { expected: ["net::ERR_"] }, async (page) => {
    for (const [id, value] of [["complete-tokens", "200"], ["n", "8"]]) await page.fill(`#${id}`, value);
    await page.selectOption("#preset", "exact");
    await page.click("#go");
    await page.locator("#status:has-text('Evaluation')").waitFor();
    server.kill("SIGKILL");
    await page.locator("#alert:has-text('The connection broke')").waitFor();
    await page.click("#go");
    await page.locator("#alert:has-text('cannot be reached')").waitFor();
  });
});

test("a model without a chat template says how to give it one", () => {
  const before = (page) =>
    page.route("**/v1/models", async (route) => {
      const response = await route.fetch();
      const models = await response.json();
      models.data[0].capabilities = ["completion", "fill"];
      await route.fulfill({ response, json: models });
    });
  return onPage(browser, url, { hash: "#instruct", before }, async (page) => {
    await page.locator("#no-chat:visible").waitFor();
    assert.ok(await page.isDisabled("#go"));
  });
});
