/** The model's mask as it is written in the editor: a run of them is a hole as long as the run. */
export const MASK = "▒";

/** The text of the editor in pieces, and the holes between them as `{ at, length }`. */
export function split(text) {
  const holes = [...text.matchAll(/▒+/g)].map((found) => ({ at: found.index, length: found[0].length }));
  return { texts: text.split(/▒+/), holes };
}

/** What all requests share: settings that are not empty, and what is streamed. */
function common({ preset, order, steps, block, temperature, seed, n, stream, drafts }, states = true) {
  const diffusion = { preset, order, steps, block_length: block };
  if (stream && states) diffusion.stream_states = drafts ? "draft" : "delta";
  const given = { temperature, seed, n, stream: stream || undefined };
  return { ...present(given), ...(Object.keys(present(diffusion)).length ? { diffusion: present(diffusion) } : {}) };
}

/** Without what is not given; `/fill` and `diffusion` refuse nothing more readily than what they do not know. */
function present(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== ""));
}

/** A text to continue. */
export function completion(prompt, tokens, form) {
  return {
    path: "/v1/completions",
    body: { prompt, max_tokens: tokens, ...common(form) },
    ...drawn([prompt, ""], [[tokens, tokens]], form),
  };
}

/** A message to answer. */
export function instruction(content, tokens, form) {
  return {
    path: "/v1/chat/completions",
    body: { messages: [{ role: "user", content }], max_tokens: tokens, ...common(form) },
    ...drawn(["", ""], [[tokens, tokens]], form),
  };
}

/** A text with holes, `lengths` being the shortest and longest of each. */
export function fill(texts, lengths, form) {
  const length = ([min, max]) => ({ length: min === max ? max : { min, max } });
  const segments = texts.flatMap((text, number) => [
    ...(text ? [text] : []),
    ...(number < lengths.length ? [length(lengths[number])] : []),
  ]);
  const searched = lengths.some(([min, max]) => min !== max);
  return { path: "/fill", body: { segments, ...common(form, !searched) }, searched, ...drawn(texts, lengths, form) };
}

/** A text to score. */
export function scoring(prompt, mode) {
  const body = { prompt, max_tokens: 0, echo: true, logprobs: 3 };
  if (mode !== "chain") body.diffusion = { score: { mode } };
  return { path: "/v1/completions", body, ...drawn([prompt], [], {}) };
}

/** What the canvas shows before the answer; whatever is asked for, not more than can be drawn. */
function drawn(texts, lengths, { n }) {
  const answers = Math.min(Math.max(n || 1, 1), 64);
  const bounded = (length) => Math.min(length || 0, Math.ceil(4096 / answers));
  return { texts, lengths: lengths.map((pair) => pair.map(bounded)), answers };
}
