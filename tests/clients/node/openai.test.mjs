// OpenAI's Node SDK: a second reader of the same streams, with a parser of its own.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const model = "unmask-code";
const url = process.env.UNMASK_URL;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const text = { model, prompt: "import os\nimport ", max_tokens: 16, seed: 1 };
const chat = { model, messages: [{ role: "user", content: "Write a function that adds." }], max_tokens: 24, seed: 1 };

async function chunksOf(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

const pieces = (chunks) => chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.text ?? choice.delta?.content ?? ""));

async function health() {
  return (await fetch(`${url}/health`)).json();
}

test("streamed text is the plain text, and so is its usage", async () => {
  // Broken: concatenated pieces differ from the text of a plain answer.
  const plain = await client.completions.create(text);
  const chunks = await chunksOf(client.completions.create({ ...text, stream: true, stream_options: { include_usage: true } }));
  assert.equal(pieces(chunks).join(""), plain.choices[0].text);
  assert.ok(plain.choices[0].text);
  assert.deepEqual(chunks.at(-1).usage, plain.usage);
  assert.deepEqual(chunks.at(-1).choices, []);
});

test("states ride beside the text", async () => {
  // Broken: viewers cannot show the denoising without giving up the SDK.
  const stream = client.completions.create({ ...text, stream: true, diffusion: { stream_states: "delta" } });
  const events = (await chunksOf(stream)).map((chunk) => chunk.diffusion).filter((state) => state?.type);
  assert.equal(events[0].type, "start");
  assert.equal(events.at(-1).type, "end");
  const filled = events.filter((state) => state.type === "step").flatMap((state) => state.positions);
  assert.deepEqual(filled.toSorted((a, b) => a - b), [...Array(events[0].length).keys()]);
});

test("chat: streamed, plain and assembled by the SDK are one text", async () => {
  // Broken: chat windows show another answer than scripts get, or the SDK's stricter accumulator rejects a chunk.
  const plain = (await client.chat.completions.create(chat)).choices[0].message.content;
  assert.equal(pieces(await chunksOf(client.chat.completions.create({ ...chat, stream: true }))).join(""), plain);
  const assembled = await client.chat.completions.stream(chat).finalChatCompletion();
  assert.equal(assembled.choices[0].message.content, plain);
});

test("a suffix is seen", async () => {
  // Broken: editors built on this SDK get a continuation that ignores what follows.
  const filled = await client.completions.create({ ...text, suffix: "\n\nprint(os.name)\n" });
  const open = await client.completions.create(text);
  assert.ok(filled.usage.prompt_tokens > open.usage.prompt_tokens);
});

test("refusals are typed, with code and param", async () => {
  // Broken: callers cannot tell their mistake from a failure of the server.
  await assert.rejects(client.completions.create({ ...text, n: 99 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.code, error.param, error.type], ["out_of_range", "n", "invalid_request_error"]);
    return true;
  });
  await assert.rejects(client.completions.create({ ...text, model: "gpt-4" }), OpenAI.NotFoundError);
});

test("ignored fields and the request's id are in the headers", async () => {
  // Broken: a misspelled field is ignored without an error.
  const { data, response } = await client.completions.create({ ...text, temprature: 1 }).withResponse();
  assert.equal(response.headers.get("x-ignored-params"), "temprature");
  assert.equal(data.id, `cmpl-${response.headers.get("x-request-id")}`);
});

test("leaving a stream frees its slot", { timeout: 60_000 }, async () => {
  // Broken: every reader that changes its mind costs the server a full answer.
  const endless = { model, prompt: "", max_tokens: 200, n: 8, ignore_eos: true, stream: true };
  const stream = await client.completions.create({ ...endless, diffusion: { preset: "exact", stream_states: "delta" } });
  for await (const _ of stream) break;
  let state;
  // Ends by the test's own deadline.
  do state = await health();
  while (state.running + state.waiting > 0);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  assert.match(metrics, /unmask_requests_total\{[^}]*outcome="cancelled"[^}]*\} [1-9]/);
});
