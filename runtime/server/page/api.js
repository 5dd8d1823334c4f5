// The server's API: bundles, streamed answers, closed questions. Paths are relative, so that a proxy may put the page
// under any address.

const KEY = "mobilevlm.key";

/** What the server, or the way to it, says against a request. */
export class ServerError extends Error {
  /**
   * @param {string} message the server's own
   * @param {number} status HTTP status; 0 where there was no response, or an error in the middle of a stream
   * @param {string | null} retryAfter seconds after which the same request may be tried again
   */
  constructor(message, status = 0, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Returns the API key of this tab; empty for none. */
export function apiKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** Keeps the API key until the tab is closed. */
export function keepApiKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** Returns the served bundles, as `/v1/models` lists them. */
export async function bundles() {
  const response = await call("v1/models");
  return (await response.json()).data;
}

/** Answers a closed question: `{answer, choices: [{choice, probability}]}`. */
export async function choose(model, messages, choices, signal) {
  const response = await call("v1/choose", { model, messages, choices }, signal);
  return response.json();
}

/** Yields the chunks of a streamed answer. */
export async function* answer(model, messages, signal) {
  const body = { model, messages, stream: true, stream_options: { include_usage: true } };
  const response = await call("v1/chat/completions", body, signal);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message);
    yield chunk;
  }
  throw new ServerError("the connection ended before the answer did");
}

/** Sends a request; a body makes it a POST. */
async function call(path, body, signal) {
  const headers = apiKey() ? { Authorization: `Bearer ${apiKey()}` } : {};
  const options = { headers, signal, cache: "no-store" };
  if (body) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("the server cannot be reached: does it still run?");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  let message = `${response.status} ${response.statusText}`.trim();
  try {
    message = (await response.json()).error.message;
  } catch {
    // Not one of the server's own errors, such as a proxy's page: the status has to do.
  }
  return new ServerError(message, response.status, response.headers.get("Retry-After"));
}

/** Yields the data of server-sent events; comments, which keep the connection alive, are left out. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw error instanceof TypeError ? new ServerError("the connection ended before the answer did") : error;
  } finally {
    reader.cancel().catch(() => {});
  }
}
