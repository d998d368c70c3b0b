// The page's own arithmetic, without a page: what a canvas looks like after k events.

import assert from "node:assert/strict";
import { test } from "node:test";

const source = (name) => import(`${process.env.PLAYGROUND_SOURCE}/${name}`);
const { begin, picture, preview, record } = await source("replay.js");
const { fill, split } = await source("requests.js");

/** Numbers from 0 up to a bound, the same in every run. */
function numbers(seed) {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

const words = (parts) => parts.map((part) => (typeof part === "string" ? part : part.map((cell) => cell.text).join(""))).join("");

/** A run of one hole whose tokens are these bytes, committed in some order, and whose text is `text`. */
function finished(tokens, text, next) {
  const run = begin({ texts: ["<", ">"], lengths: [[tokens.length, tokens.length]], answers: 1 });
  record(run, { type: "fill.state", state: { type: "start", choice: 0, length: tokens.length, holes: [{ id: "0", position: 0, length: tokens.length }] } }, 0);
  const open = tokens.map((_, at) => at);
  for (let n = 1; open.length; n += 1) {
    const [at] = open.splice(next(open.length), 1);
    const piece = new TextDecoder().decode(Uint8Array.from(tokens[at]));
    const counts = { evaluation: n, max_evaluations: tokens.length, remaining: open.length };
    const state = { type: "step", choice: 0, ...counts, positions: [at], token_ids: [1], texts: [piece], probabilities: [0.09] };
    record(run, { type: "fill.state", state }, n);
  }
  record(run, { type: "fill.hole", choice: 0, id: "0", text, finish_reason: "filled" }, 99);
  return run;
}

test("characters that lie in several tokens, and cut ends, still spell the text", () => {
  const next = numbers(7);
  for (let round = 0; round < 500; round += 1) {
    const alphabet = ["a", "é", "漢", "🙂", " ", "\n", "x = 1", "�"];
    const whole = Array.from({ length: 1 + next(8) }, () => alphabet[next(alphabet.length)]).join("");
    const bytes = [...new TextEncoder().encode(whole)];
    const tokens = [];
    while (bytes.length) tokens.push(bytes.splice(0, 1 + next(4)));
    const text = [...whole].slice(0, next([...whole].length + 1)).join("");
    const run = finished(tokens, text, next);
    const [parts] = picture(run, run.frames.length);
    assert.equal(words(parts), `<${text}>`);
    assert.equal(parts[1].length, tokens.length, "every position is still there");
  }
});

test("a position that is masked again is open again, until it is committed again", () => {
  const run = begin({ texts: ["", ""], lengths: [[2, 2]], answers: 1 });
  const step = (n, fields) => {
    const counts = { evaluation: n, max_evaluations: 9, remaining: 1 };
    record(run, { diffusion: { type: "step", choice: 0, ...counts, token_ids: [1], probabilities: [0.09], ...fields } }, n);
  };
  record(run, { diffusion: { type: "start", choice: 0, length: 2, holes: [{ id: "0", position: 0, length: 2 }] } }, 0);
  step(1, { positions: [0], texts: ["a"] });
  step(2, { positions: [1], texts: ["b"], remasked: [0] });
  step(3, { positions: [0], texts: ["c"] });
  const drawn = [0, 1, 2, 3].map((k) => words(picture(run, k)[0]));
  assert.deepEqual(drawn, ["▒▒", "a▒", "▒b", "cb"]);
  assert.equal(picture(run, 3)[0][1][1].state, "held", "nothing is settled while tokens may be taken back");
});

test("what is settled lies left of all that is open", () => {
  const run = finished([[97], [98], [99], [100]], "abcd", numbers(3));
  for (let k = 0; k <= run.frames.length; k += 1) {
    const states = picture(run, k)[0][1].map((cell) => cell.state);
    const front = states.indexOf("open");
    const settled = states.map((state) => state === "settled");
    settled.forEach((is, at) => assert.ok(!is || front < 0 || at < front, states.join()));
  }
});

test("before a run, a canvas has a cell for every position", () => {
  const [parts] = preview(fill(["a", "b", ""], [[2, 2], [1, 4]], {}));
  const states = parts.map((part) => (typeof part === "string" ? part : part.map((cell) => cell.state)));
  assert.deepEqual(states, ["a", ["open", "open"], "b", ["open", "maybe", "maybe", "maybe"], ""]);
});

test("runs of the mask are holes", () => {
  assert.deepEqual(split("▒▒a▒"), { texts: ["", "a", ""], holes: [{ at: 0, length: 2 }, { at: 3, length: 1 }] });
});

test("a range of lengths is asked for without states, an exact one with them", () => {
  const asked = (lengths) => fill(["a", ""], lengths, { stream: true }).body;
  assert.deepEqual(asked([[1, 3]]), { segments: ["a", { length: { min: 1, max: 3 } }], stream: true });
  assert.deepEqual(asked([[3, 3]]), { segments: ["a", { length: 3 }], stream: true, diffusion: { stream_states: "delta" } });
});
