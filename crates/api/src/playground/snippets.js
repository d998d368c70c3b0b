// The same request elsewhere. Keys are named and never shown.

/** For a shell. */
export function curl(url, { body }, keyed) {
  const text = JSON.stringify(body).replaceAll("'", "'\\''");
  const key = keyed ? ` \\\n  -H "authorization: Bearer $UNMASK_API_KEY"` : "";
  return `curl -sN ${url} -H 'content-type: application/json'${key} \\\n  -d '${text}'`;
}

/** Python, with nothing to install. */
export function python(url, { body }, keyed) {
  const key = keyed ? `, "authorization": "Bearer " + os.environ["UNMASK_API_KEY"]` : "";
  return [
    `import json, ${keyed ? "os, " : ""}urllib.request`,
    "",
    `body = ${literal(body, "")}`,
    `headers = {"content-type": "application/json"${key}}`,
    `request = urllib.request.Request("${url}", json.dumps(body).encode(), headers)`,
    "with urllib.request.urlopen(request) as answer:",
    "    for line in answer:",
    '        print(line.decode(), end="")',
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
export function js(url, { body }, keyed) {
  const key = keyed ? `, authorization: \`Bearer \${process.env.UNMASK_API_KEY}\`` : "";
  return [
    `const body = ${JSON.stringify(body, null, 2)};`,
    `const answer = await fetch("${url}", {`,
    '  method: "POST",',
    `  headers: { "content-type": "application/json"${key} },`,
    "  body: JSON.stringify(body),",
    "});",
    "for await (const part of answer.body.pipeThrough(new TextDecoderStream())) console.log(part);",
  ].join("\n");
}

/** By their names on the page. */
export const LANGUAGES = { curl, python, js };
