// Vercel's AI SDK with its provider for OpenAI-compatible servers, which web frameworks use.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, streamText } from "ai";

const unmask = createOpenAICompatible({ name: "unmask", baseURL: `${process.env.UNMASK_URL}/v1`, includeUsage: true });
const chat = { model: unmask("unmask-code"), prompt: "Write a function that adds.", maxOutputTokens: 24, seed: 1, maxRetries: 0 };
const completion = { ...chat, model: unmask.completionModel("unmask-code") };

for (const [name, request] of Object.entries({ chat, completion })) {
  test(`${name}: streamed and plain are the same text, with usage`, async () => {
    // Broken: pages that stream show other text than those that wait, or count other tokens.
    const plain = await generateText(request);
    const stream = streamText(request);
    assert.equal(await stream.text, plain.text);
    assert.ok(plain.text);
    assert.equal((await stream.usage).outputTokens, plain.usage.outputTokens);
    assert.equal(await stream.finishReason, plain.finishReason);
  });
}

test("settings of the sampler pass through the provider's options", async () => {
  // Broken: users of this SDK cannot choose how the text is denoised.
  const text = async (diffusion) => (await generateText({ ...chat, providerOptions: { unmask: { diffusion } } })).text;
  await assert.rejects(text({ stepps: 1 }), /stepps/);
  assert.notEqual(await text({ preset: "greedy" }), await text({ preset: "exact" }));
});

test("a refusal carries the server's words", async () => {
  // Broken: the page says that the answer is not valid JSON.
  await assert.rejects(generateText({ ...chat, temperature: 9 }), (error) => {
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.statusCode, 400);
    assert.match(error.message, /temperature/);
    return true;
  });
});
