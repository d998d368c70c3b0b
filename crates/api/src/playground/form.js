import { $, make } from "./dom.js";
import { completion, fill, instruction, scoring } from "./requests.js";

const number = (id) => ($(id).value.trim() === "" || Number.isNaN(Number($(id).value)) ? undefined : Number($(id).value));

/** The settings, those left empty as undefined: what they may be is the server's to say. */
function settings() {
  return {
    preset: $("preset").value,
    order: $("order").value,
    steps: number("steps"),
    block: number("block"),
    temperature: number("temperature"),
    seed: number("seed"),
    n: number("n"),
    stream: $("stream").checked,
    drafts: $("drafts").checked,
  };
}

/** The request that a tab's fields ask for. */
export function requested(tab, holes) {
  const form = settings();
  switch (tab) {
    case "complete":
      return completion($("prompt").value, number("complete-tokens"), form);
    case "instruct":
      return instruction($("instruction").value, number("instruct-tokens"), form);
    case "score":
      return scoring($("scored").value, $("mode").value);
    default: {
      const { texts, lengths } = holes.value();
      return fill(texts, lengths, form);
    }
  }
}

/** The same holes with the lengths that were found, so that their filling can be watched. */
export function winner({ texts }, answer) {
  const lengths = answer.choices[0].holes.map(({ length }) => [length, length]);
  return fill(texts, lengths, { ...settings(), seed: answer.diffusion.seed, n: undefined, stream: true });
}

/** Fills in what the model says of itself. */
export function describe(model) {
  const millions = (model.meta.n_params / 1e6).toPrecision(2).replace(/\.0$/, "");
  $("model").textContent = `${model.id} · ${millions} M · ${model.max_model_len} positions`;
  const names = model.diffusion.orders.map((order) => make("option", {}, order));
  $("order").replaceChildren($("order").firstElementChild, ...names);
  $("no-chat").hidden = model.capabilities.includes("chat");
  const embedded = model.root === "unmask-code";
  $("toy").hidden = $("examples").hidden = $("experiment").hidden = !embedded;
}

const ROUTES = { fill: "fill", complete: "complete", instruct: "chat", score: "complete" };

/** What the settings are when they are left empty: models have some for each kind of request. */
export function suggest(model, tab) {
  const { preset, steps, temperature } = model.route_defaults[ROUTES[tab]];
  $("preset").options[0].textContent = `the model’s (${preset})`;
  $("steps").placeholder = ["exact", "greedy"].includes(preset) ? "none" : steps;
  $("temperature").placeholder = temperature;
}

/** Marks the field that a refusal is about. */
export function blame(param) {
  for (const field of $("form").elements) {
    const guilty = Boolean(param) && field.name === param && field.offsetParent !== null;
    if (guilty) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }
}
