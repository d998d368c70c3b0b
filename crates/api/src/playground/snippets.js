// The same request elsewhere, for its texts: the answer comes whole, not as a stream. Keys are named and never shown.

/** The body without what makes the answer a stream. */
function whole({ body }) {
  const { stream, diffusion: { stream_states, ...diffusion } = {}, ...rest } = body;
  return Object.keys(diffusion).length ? { ...rest, diffusion } : rest;
}

/** What a program prints of a choice: its text, or the tokens of a text that is scored. */
function printed({ path, body }) {
  if (body.echo) return "scores";
  return path.endsWith("/chat/completions") ? "message" : "text";
}

/** For a shell: the answer as JSON. */
export function curl(url, request, keyed) {
  const text = JSON.stringify(whole(request)).replaceAll("'", "'\\''");
  const key = keyed ? ` \\\n  -H "authorization: Bearer $UNMASK_API_KEY"` : "";
  return `curl -s ${url} -H 'content-type: application/json'${key} \\\n  -d '${text}'`;
}

/** Python, with nothing to install. */
export function python(url, request, keyed) {
  const key = keyed ? `, "authorization": "Bearer " + os.environ["UNMASK_API_KEY"]` : "";
  const print = {
    text: ['        print(choice["text"])'],
    message: ['        print(choice["message"]["content"])'],
    scores: [
      '        logprobs = choice["logprobs"]',
      '        for token, logprob in zip(logprobs["tokens"], logprobs["token_logprobs"]):',
      "            print(logprob, token)",
    ],
  };
  return [
    `import json, ${keyed ? "os, " : ""}urllib.request`,
    "",
    `body = ${literal(whole(request), "")}`,
    `headers = {"content-type": "application/json"${key}}`,
    `request = urllib.request.Request("${url}", json.dumps(body).encode(), headers)`,
    "with urllib.request.urlopen(request) as answer:",
    '    for choice in json.load(answer)["choices"]:',
    ...print[printed(request)],
  ].join("\n");
}

function literal(value, indent) {
  const inner = `${indent}    `;
  const list = (open, items, close) => `${open}\n${items.map((item) => inner + item).join(",\n")},\n${indent}${close}`;
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return list("[", value.map((item) => literal(item, inner)), "]");
  if (typeof value !== "object") return JSON.stringify(value);
  return list("{", Object.entries(value).map(([name, item]) => `"${name}": ${literal(item, inner)}`), "}");
}

/** JavaScript, in browsers and in Node. */
export function js(url, request, keyed) {
  const key = keyed ? `, authorization: \`Bearer \${process.env.UNMASK_API_KEY}\`` : "";
  const print = {
    text: ["  console.log(choice.text);"],
    message: ["  console.log(choice.message.content);"],
    scores: [
      "  const { tokens, token_logprobs } = choice.logprobs;",
      "  tokens.forEach((token, at) => console.log(token_logprobs[at], token));",
    ],
  };
  return [
    `const body = ${JSON.stringify(whole(request), null, 2)};`,
    `const answer = await fetch("${url}", {`,
    '  method: "POST",',
    `  headers: { "content-type": "application/json"${key} },`,
    "  body: JSON.stringify(body),",
    "});",
    "for (const choice of (await answer.json()).choices) {",
    ...print[printed(request)],
    "}",
  ].join("\n");
}

/** By their names on the page. */
export const LANGUAGES = { curl, python, js };
