// One call over HTTP: JSON there, one JSON object a line back, errors as {code, message, details}.

export class CallFailed extends Error {
  constructor(message, { status = 0, reason = "" } = {}) {
    super(message);
    Object.assign(this, { status, reason });
  }
}

export async function call(path, key, options = {}) {
  let response;
  try {
    const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallFailed("The server cannot be reached. Is it running?");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  const text = await response.text();
  try {
    const status = JSON.parse(text);
    const reason = (status.details ?? []).map((detail) => detail.reason).find(Boolean) ?? "";
    return new CallFailed(status.message || `HTTP ${response.status}`, { status: response.status, reason });
  } catch {
    return new CallFailed(text || `HTTP ${response.status}`, { status: response.status });
  }
}

export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part.trim()) yield JSON.parse(part);
  }
  if (rest.trim()) yield JSON.parse(rest);
}

export function bytes(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

export function base64Of(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new CallFailed("The file cannot be read."));
    reader.readAsDataURL(file);
  });
}

// The encoded file, from its chunks in order.
export class Assembled {
  parts = [];
  size = 0;

  add(chunk) {
    if (Number(chunk.offset ?? 0) !== this.size) throw new CallFailed("A piece of the file is missing. Try again.");
    const part = bytes(chunk.data);
    this.parts.push(part);
    this.size += part.length;
  }

  async checked(output) {
    const blob = new Blob(this.parts, { type: output.content_type });
    if (blob.size !== Number(output.size_bytes)) throw new CallFailed("The file is not whole. Try again.");
    // Browsers hash only on https and localhost.
    if (crypto.subtle && output.sha256) {
      const found = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
      const said = bytes(output.sha256);
      if (!found.every((value, index) => value === said[index])) throw new CallFailed("The file was damaged on its way.");
    }
    return blob;
  }
}
