// How it looks: on phones, enlarged, light and dark, without motion, and to axe. Screenshots are for the eye.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { readFile } from "node:fs/promises";
import { browse, denoise, onPage, serve, shown } from "./harness.mjs";

const url = await serve();
const browser = await browse();
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const TABS = ["complete", "fill", "instruct", "score"];

/** Shows a tab in use. */
async function use(page, tab) {
  await page.click(`#tab-${tab}`);
  if (tab === "score") {
    await page.click("#go");
    await page.locator("#status[data-state=done]").waitFor();
    await page.click("text=Every token");
    return;
  }
  await page.evaluate(() => (document.querySelector("#settings").open = true));
  await denoise(page, { seed: 7, temperature: 0.3 });
}

const overflow = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing in the ${colorScheme} page`, () =>
    onPage(browser, url, { colorScheme }, async (page) => {
      const check = async (where) => {
        await still(page);
        await page.evaluate(axe);
        const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
        assert.ok(passes.length > 20, "axe has looked");
        const found = violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.html).join(" ")}`);
        assert.deepEqual(found, [], where);
      };
      for (const tab of TABS) {
        await page.click(`#tab-${tab}`);
        await check(`${tab} before`);
        await use(page, tab);
        await check(`${tab} after`);
        if (tab === "score") continue;
        await page.click("#back");
        await check(`${tab} on the way`);
      }
      await page.evaluate(() => document.querySelector("#key-dialog").showModal());
      await check("the key");
    }));
}

for (const [name, viewport, deviceScaleFactor] of [
  ["a phone of 320 pixels", { width: 320, height: 640 }, 2],
  ["a screen of 1280 pixels at 200 %", { width: 640, height: 450 }, 2],
  ["a screen of 1280 pixels at 400 %", { width: 320, height: 225 }, 4],
]) {
  test(`nothing scrolls sideways on ${name}`, () =>
    onPage(browser, url, { viewport, deviceScaleFactor }, async (page) => {
      for (const tab of TABS) {
        await use(page, tab);
        assert.equal(await overflow(page), 0, tab);
        const cut = await page.$$eval("button, select, input, dd", (elements) =>
          elements.filter((element) => element.offsetParent && element.getBoundingClientRect().right > innerWidth).map((element) => element.id),
        );
        assert.deepEqual(cut, [], `controls of ${tab} beyond the edge`);
      }
    }));
}

test("who asks for less motion sees none", () =>
  onPage(browser, url, { reducedMotion: "reduce" }, async (page) => {
    await page.evaluate(() => {
      globalThis.moved = [];
      for (const kind of ["animationstart", "transitionstart"]) addEventListener(kind, ({ target }) => globalThis.moved.push(target.className), true);
    });
    await page.fill("#seed", "7");
    await page.click("#go");
    await shown(page);
    await page.click("#back");
    const durations = await page.evaluate(() =>
      [...document.querySelectorAll("*")].flatMap((element) =>
        [undefined, "::before", "::after"].map((part) => {
          const { transitionDuration, animationName } = getComputedStyle(element, part);
          return `${transitionDuration} ${animationName}`;
        }),
      ),
    );
    assert.deepEqual([...new Set(durations)], ["0s none"]);
    assert.deepEqual(await page.evaluate(() => globalThis.moved), []);
  }));

test("others see masks dissolve", () =>
  onPage(browser, url, { reducedMotion: "no-preference" }, async (page) => {
    await page.evaluate(() => {
      globalThis.dissolved = 0;
      addEventListener("animationstart", ({ animationName }) => (globalThis.dissolved += animationName === "dissolve"), true);
    });
    await page.fill("#seed", "7");
    await page.click("#go");
    await shown(page);
    assert.ok((await page.evaluate(() => globalThis.dissolved)) > 5);
  }));

test("confidence is in the thickness of lines and in words, not in colour alone", () =>
  onPage(browser, url, {}, async (page) => {
    await denoise(page, { seed: 7 });
    const words = page.locator(".cell .word");
    const lines = await words.evaluateAll((words) => words.map((word) => getComputedStyle(word).textDecorationThickness));
    assert.ok(new Set(lines).size > 3, lines.join());
    await words.first().hover();
    assert.match(await page.textContent(".tip"), /\d+ % when it was drawn, evaluation \d+/);
  }));

/** Waits for the end of all that moves. */
async function still(page) {
  await page.evaluate(() => Promise.allSettled(document.getAnimations().map((animation) => animation.finished)));
}

/** What crates/api/docs/api.md shows. */
test("screenshot: a hole that is half filled", () =>
  onPage(browser, url, { viewport: { width: 1120, height: 500 }, deviceScaleFactor: 2, hash: "#fill" }, async (page) => {
    await denoise(page, { seed: 1, temperature: 0.3 });
    await page.locator("#slider").fill("3");
    await still(page);
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: join(process.env.UNMASK_SCREENSHOTS, "readme.png") });
    assert.equal(await page.locator(".cell[data-state=new]").count(), 1);
  }));

for (const colorScheme of ["light", "dark"]) {
  for (const [device, viewport] of [["desktop", { width: 1280, height: 800 }], ["phone", { width: 390, height: 844 }]]) {
    test(`screenshots: ${colorScheme}, ${device}`, () =>
      onPage(browser, url, { colorScheme, viewport }, async (page) => {
        const shades = new Set();
        for (const tab of TABS) {
          await use(page, tab);
          if (tab !== "score") {
            const steps = Number(await page.getAttribute("#slider", "max"));
            await page.locator("#slider").fill(String(Math.round(steps * 0.6)));
          }
          await still(page);
          shades.add(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
          const path = join(process.env.UNMASK_SCREENSHOTS, `${tab}-${colorScheme}-${device}.png`);
          await page.screenshot({ path, fullPage: true });
        }
        const [shade] = shades;
        const light = shade.match(/\d+/g).map(Number).every((part) => part > 200);
        assert.equal(light, colorScheme === "light", `a ${colorScheme} page has the ground ${shade}`);
      }));
  }
}
