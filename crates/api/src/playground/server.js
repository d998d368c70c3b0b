const KEPT = "unmask-key";

/** The tab's own storage, where the browser allows it. */
function storage() {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}

/** The key, in memory; in the storage only when that was asked for. */
export const access = {
  key: storage()?.getItem(KEPT) ?? "",
  use(key, keep) {
    this.key = key;
    if (keep && key) storage()?.setItem(KEPT, key);
    else storage()?.removeItem(KEPT);
  },
};

/** An answer other than 2xx, or the error event of a stream: `code` and `param` are the server's. */
export class Refusal extends Error {
  constructor(error, status, wait) {
    super(error?.message || `The server answered ${status}.`);
    Object.assign(this, { status, code: error?.code ?? "", param: error?.param ?? "", wait });
  }
}

/** What browsers say of a lost connection is for developers. */
const lost = (message) => (error) => {
  throw error.name === "AbortError" ? error : new Refusal({ message });
};

/** GET, or POST when there is a body. Throws a `Refusal`, or an `AbortError` when it is stopped. */
export async function ask(path, body, signal) {
  const headers = {};
  if (body) headers["content-type"] = "application/json";
  if (access.key) headers.authorization = `Bearer ${access.key}`;
  const method = body ? "POST" : "GET";
  const options = { method, headers, body: body && JSON.stringify(body), signal };
  const response = await fetch(path, options).catch(lost("The server cannot be reached. Is it still running?"));
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Refusal(answer.error, response.status, response.headers.get("retry-after"));
}

/** The data of a stream's events, one by one, as they come. */
export async function* events(response) {
  const broken = lost("The connection broke before the answer was complete.");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read().catch(broken);
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
