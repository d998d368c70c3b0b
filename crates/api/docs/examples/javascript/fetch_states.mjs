// The states of a stream with fetch alone, in Node 18 or a browser.
const response = await fetch("http://localhost:8080/v1/completions", {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({
    prompt: "try:\n    import json\nexcept ",
    max_tokens: 4,
    seed: 46,
    stream: true,
    diffusion: { stream_states: "delta" },
  }),
});
if (!response.ok) throw new Error((await response.json()).error.message);

let canvas = [];
let text = "";
let unread = "";
for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {
  const events = (unread + bytes).split("\n\n");
  unread = events.pop();
  for (const event of events) {
    const data = event.replace(/^data: /, "");
    if (data === "[DONE]") continue;
    const { choices, diffusion: state } = JSON.parse(data);
    text += choices.map((choice) => choice.text).join("");
    if (state?.type === "start") canvas = Array(state.length).fill(state.mask);
    if (state?.type === "step") {
      state.positions.forEach((position, index) => (canvas[position] = state.texts[index]));
      console.log(JSON.stringify(canvas.join("")));
    }
  }
}
console.log("text:", JSON.stringify(text));
