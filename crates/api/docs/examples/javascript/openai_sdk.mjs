// OpenAI's SDK for Node. `npm install openai`
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://localhost:8080/v1", apiKey: "none" });

const filled = await client.completions.create({
  model: "unmask-code",
  prompt: "class Stack:\n    def __len__(self):\n        return len(",
  suffix: "._items)\n",
  max_tokens: 4,
  seed: 7,
});
console.log("hole:", filled.choices[0].text);

// States: what the SDK does not know passes through.
const stream = await client.completions.create({
  model: "unmask-code",
  prompt: "try:\n    import json\nexcept ",
  max_tokens: 4,
  seed: 46,
  stream: true,
  diffusion: { stream_states: "delta" },
});
for await (const { diffusion: state } of stream) {
  if (state?.type === "step") console.log(`${state.remaining} open:`, JSON.stringify(state.texts));
}
