// What the server offers, and the token that it may ask for.

const KEY = "sr-tile-token";

export class ServerError extends Error {
  constructor(status, message, retryAfter, code = "") {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const token = () => sessionStorage.getItem(KEY);
const headers = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

let asking = null;

/** Ask for a token, once for all who need one. */
function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token-dialog");
    const field = document.getElementById("token");
    dialog.addEventListener("close", () => {
      if (field.value) sessionStorage.setItem(KEY, field.value.trim());
      field.value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

function problem(status, text, retryAfter) {
  let error = { message: `The server answered with ${status}.`, code: "" };
  try {
    error = JSON.parse(text).error;
  } catch { /* not from sr-tile: a proxy, perhaps */ }
  return new ServerError(status, error.message, Number(retryAfter) || 0, error.code);
}

async function ask(path, options = {}) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, { ...options, headers: headers() });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError(0, "The server cannot be reached.", 0);
    }
    if (answer.ok) return answer;
    if (answer.status !== 401) throw problem(answer.status, await answer.text(), answer.headers.get("Retry-After"));
    await askForToken();
  }
}

export const description = async () => (await ask("/openapi.json")).json();
export const models = async () => (await ask("/v1/models")).json();
export const job = async (id) => (await ask(`/v1/jobs/${id}`)).json();
export const forget = (id) => ask(`/v1/jobs/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});

/** A tile of a preview, as an image bitmap. */
export async function tile(id, side, level, column, row, signal) {
  const answer = await ask(`/v1/jobs/${id}/view/${side}/${level}/${column}/${row}`, { signal });
  return createImageBitmap(await answer.blob());
}

/** Send a file; `onProgress` is told the share that is sent. XMLHttpRequest, because fetch does not say. */
export function start(file, options, onProgress, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries(options)) if (value !== "") form.append(name, value);
  form.append("image", file, file.name || "pasted.png");
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/jobs");
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new ServerError(0, "The server cannot be reached.", 0));
    request.onabort = () => reject(new DOMException("given up", "AbortError"));
    request.onload = () => (request.status === 201
      ? resolve(JSON.parse(request.responseText))
      : reject(problem(request.status, request.responseText, request.getResponseHeader("Retry-After"))));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

export const download = (id, name) => save(`/v1/jobs/${id}/result`, name);
export const downloadAll = (ids) => save(`/v1/results?${new URLSearchParams(ids.map((id) => ["job", id]))}`, "results.zip");

/** Save what a path answers. A link cannot carry a token, so with one the file is fetched first. */
async function save(path, name) {
  const link = document.createElement("a");
  link.download = name;
  if (token()) link.href = URL.createObjectURL(await (await ask(path)).blob());
  else link.href = path;
  link.click();
  if (token()) setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
