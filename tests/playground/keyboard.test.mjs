// Everything can be done without a pointer, and is told to those who do not see it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, onPage, serve, shown, texts } from "./harness.mjs";

const url = await serve();
const browser = await browse();

/** Presses Tab until the element has the focus. */
async function tabTo(page, id) {
  for (let presses = 0; presses < 60; presses += 1) {
    if ((await page.evaluate(() => document.activeElement.id)) === id) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`Tab never reaches #${id}`);
}

test("a hole is punched, sized, filled and replayed by keyboard alone", () =>
  onPage(browser, url, {}, async (page) => {
    await tabTo(page, "tab-complete");
    await page.keyboard.press("ArrowLeft");
    assert.equal(await page.evaluate(() => document.activeElement.id), "tab-fill");
    await tabTo(page, "holed");
    await page.keyboard.press("Control+a");
    await page.keyboard.type("for item in items:");
    for (let steps = 0; steps < 6; steps += 1) await page.keyboard.press("ArrowLeft");
    for (let steps = 0; steps < 3; steps += 1) await page.keyboard.press("Shift+ArrowLeft");
    await tabTo(page, "punch");
    await page.keyboard.press("Enter");
    assert.equal(await page.inputValue("#holed"), "for item ▒items:", "what was selected is a hole now");
    await page.getByLabel("Longest length, hole 1").focus();
    await page.keyboard.press("ArrowUp");
    await page.getByLabel("Shortest length, hole 1").focus();
    await page.keyboard.press("ArrowUp");
    assert.equal(await page.inputValue("#holed"), "for item ▒▒items:");
    await page.keyboard.press("Control+Enter");
    await shown(page);
    const [text] = await texts(page);
    assert.ok(text.startsWith("for item ") && text.endsWith("items:") && !text.includes("▒"), text);
    await tabTo(page, "slider");
    await page.keyboard.press("ArrowLeft");
    assert.match(await page.getAttribute("#slider", "aria-valuetext"), /^step \d+ of \d+/);
    assert.match((await texts(page))[0], /▒/);
  }));

test("the focus stays on the button that starts and stops", () =>
  onPage(browser, url, {}, async (page) => {
    for (const [id, value] of [["complete-tokens", "200"], ["n", "8"]]) await page.fill(`#${id}`, value);
    await page.selectOption("#preset", "exact");
    await tabTo(page, "go");
    await page.keyboard.press("Enter");
    await page.locator("#status:has-text('Evaluation')").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "stop");
    await page.keyboard.press("Enter");
    await page.locator("#status[data-state=stopped]").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "go");
  }));

test("closing a hole brings back what was there", () =>
  onPage(browser, url, { hash: "#fill" }, async (page) => {
    await page.fill("#holed", "one two three");
    await page.evaluate(() => document.querySelector("#holed").setSelectionRange(4, 7));
    await page.click("#punch");
    assert.match(await page.inputValue("#holed"), /^one ▒+ three$/);
    await page.getByRole("button", { name: "Close hole 1" }).click();
    assert.equal(await page.inputValue("#holed"), "one two three");
    assert.equal(await page.locator("#holes li").count(), 0);
  }));

test("the layer of holes lies exactly on the text, however long it is", () =>
  onPage(browser, url, { hash: "#fill", viewport: { width: 320, height: 640 } }, async (page) => {
    await page.fill("#holed", `${"wrapped words and ▒▒▒ holes ".repeat(20)}\n\n\n`);
    const { area, layer } = await page.evaluate(() => {
      const [area, overlay] = ["holed", "overlay"].map((id) => document.getElementById(id));
      const box = ({ clientWidth, clientHeight }) => [clientWidth, clientHeight];
      return { area: [...box(area), area.scrollHeight], layer: [...box(overlay), overlay.scrollHeight] };
    });
    assert.deepEqual(area, layer);
    assert.equal(area[1], area[2], "nothing of it is hidden");
  }));

test("a length that cannot be is put right where it was written", () =>
  onPage(browser, url, { hash: "#fill" }, async (page) => {
    await page.fill("#holed", "a ▒▒ b");
    for (const [written, kept] of [["0", "1"], ["9999", "256"], ["", "1"]]) {
      await page.getByLabel("Longest length, hole 1").fill(written);
      await page.keyboard.press("Tab");
      assert.equal(await page.inputValue("[aria-label='Longest length, hole 1']"), kept);
      const runs = (await page.inputValue("#holed")).match(/▒+/g);
      assert.deepEqual(runs, ["▒".repeat(Number(kept))]);
    }
  }));

test("a hole’s edge can be dragged", () =>
  onPage(browser, url, { hash: "#fill" }, async (page) => {
    await page.fill("#holed", "a ▒▒ b");
    const { x, y, width, height } = await page.locator(".handle").boundingBox();
    const hole = await page.locator(".hole").boundingBox();
    await page.mouse.move(x + width / 2, y + height / 2);
    await page.mouse.down();
    await page.mouse.move(x + width / 2 + (hole.width / 2) * 3, y + height / 2, { steps: 4 });
    await page.mouse.up();
    assert.equal(await page.inputValue("#holed"), "a ▒▒▒▒▒ b");
    assert.equal(await page.inputValue("[aria-label='Longest length, hole 1']"), "5");
  }));

test("text that is edited keeps the ranges of its holes", () =>
  onPage(browser, url, { hash: "#fill" }, async (page) => {
    await page.fill("#holed", "a ▒▒ b ▒▒▒ c");
    await page.getByLabel("Longest length, hole 2").fill("6");
    await page.getByLabel("Longest length, hole 2").blur();
    await page.focus("#holed");
    await page.keyboard.press("Control+Home");
    await page.keyboard.type("so ");
    await page.keyboard.press("Control+End");
    await page.keyboard.type(" and ▒");
    const fields = await page.locator("#holes input").evaluateAll((inputs) => inputs.map((input) => input.value));
    assert.deepEqual(fields, ["2", "2", "3", "6", "1", "1"]);
  }));

test("settled text and the end are told in a live region, and the moving canvas is not", () =>
  onPage(browser, url, {}, async (page) => {
    await page.selectOption("#speed", "live");
    await page.click("#go");
    await shown(page);
    assert.equal(await page.getAttribute("#canvas", "aria-hidden"), "true");
    assert.equal(await page.getAttribute("#output", "aria-busy"), "false");
    const said = await page.locator("#live p").allTextContents();
    const [text] = await texts(page);
    const prompt = await page.inputValue("#prompt");
    assert.match(said.at(-1), /^Done: \d+ tokens, \d+ evaluations/);
    assert.equal(said.slice(0, -1).join("").replace(/\s/g, ""), text.slice(prompt.length).replace(/\s/g, ""));
  }));

test("tabs are walked with arrows, and addresses name them", () =>
  onPage(browser, url, { hash: "#score" }, async (page) => {
    assert.equal(await page.getAttribute("#tab-score", "aria-selected"), "true");
    await page.focus("#tab-score");
    for (const next of ["fill", "complete", "instruct"]) {
      await page.keyboard.press("ArrowRight");
      assert.equal(await page.evaluate(() => location.hash), `#${next}`);
      assert.ok(await page.isVisible(`#panel-${next}`));
    }
    await page.keyboard.press("Home");
    assert.ok(await page.isVisible("#panel-fill"));
  }));
