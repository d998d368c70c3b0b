const KEPT = "unmask-key";

/** The key, in memory; in the tab's own storage only when that was asked for. */
export const access = {
  key: sessionStorage.getItem(KEPT) ?? "",
  use(key, keep) {
    this.key = key;
    if (keep && key) sessionStorage.setItem(KEPT, key);
    else sessionStorage.removeItem(KEPT);
  },
};

/** An answer other than 2xx, or the error event of a stream: `code` and `param` are the server's. */
export class Refusal extends Error {
  constructor(error, status, wait) {
    super(error?.message || `The server answered ${status}.`);
    Object.assign(this, { status, code: error?.code ?? "", param: error?.param ?? "", wait });
  }
}

/** GET, or POST when there is a body. Throws a `Refusal`, or a `TypeError` when nobody answers. */
export async function ask(path, body, signal) {
  const headers = {};
  if (body) headers["content-type"] = "application/json";
  if (access.key) headers.authorization = `Bearer ${access.key}`;
  const method = body ? "POST" : "GET";
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Refusal(answer.error, response.status, response.headers.get("retry-after"));
}

/** The data of a stream's events, one by one, as they come. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const line = part.split("\n").find((line) => line.startsWith("data:"));
      const data = line?.slice(5).trim();
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
