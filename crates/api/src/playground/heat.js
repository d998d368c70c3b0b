import { make, setData } from "./dom.js";

/** Nats of surprise at which a token is as hot as it gets. */
const HOTTEST = 8;

const percent = (logprob) => {
  const value = Math.exp(logprob) * 100;
  return `${value >= 10 ? value.toFixed(0) : value.toPrecision(2)} %`;
};

/** The tokens of a scored text: as text with heat, in numbers, and as a table. */
export function heat(answer) {
  const { tokens, token_logprobs: logprobs, top_logprobs: tops } = answer.choices[0].logprobs;
  const scored = logprobs.filter((value) => value !== null);
  const total = scored.reduce((sum, value) => sum + value, 0);
  const mean = total / Math.max(scored.length, 1);
  const fact = (name, value) => make("span", {}, `${name} `, make("b", {}, value));
  return [
    make(
      "p",
      { className: "total" },
      fact("Log-probability", `${total.toFixed(2)} nats`),
      fact("per token", mean.toFixed(2)),
      fact("Perplexity", Math.exp(-mean).toPrecision(3)),
      fact("Tokens", String(tokens.length)),
    ),
    make("div", { className: "sheet" }, ...tokens.map((token, at) => span(token, logprobs[at], tops?.[at]))),
    table(tokens, logprobs, tops),
  ];
}

function span(token, logprob, top) {
  const element = make("span", { className: "token cell" }, token);
  setData(element, "break", token.includes("\n"));
  if (logprob === null) return element;
  const share = Math.min(-logprob / HOTTEST, 1);
  element.style.setProperty("--surprise", `${(share * 90).toFixed(0)}%`);
  element.title = [percent(logprob), ...alternatives(token, top)].join("\n");
  return element;
}

function alternatives(token, top) {
  const others = Object.entries(top ?? {}).filter(([other]) => other !== token);
  return others.sort(([, a], [, b]) => b - a).map(([other, value]) => `${JSON.stringify(other).slice(1, -1)}  ${percent(value)}`);
}

function table(tokens, logprobs, tops) {
  const cells = (name, values) => make("tr", {}, ...values.map((value) => make(name, name === "th" ? { scope: "col" } : {}, value)));
  const row = (token, at) => {
    const value = logprobs[at];
    const shown = value === null ? ["–", "–"] : [value.toFixed(2), percent(value)];
    return cells("td", [JSON.stringify(token).slice(1, -1), ...shown, alternatives(token, tops?.[at]).join("\n")]);
  };
  const head = make("thead", {}, cells("th", ["Token", "Nats", "Probability", "Instead"]));
  const body = make("tbody", {}, ...tokens.map(row));
  return make("details", {}, make("summary", {}, "Every token"), make("table", {}, head, body));
}
