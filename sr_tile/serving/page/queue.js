// Pictures on their way: added, sent, worked on, done.

import * as api from "./api.js";

const AT_ONCE = 2;
const ASK_EVERY = 300; // milliseconds
const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));
const sides = ([height, width]) => `${width} × ${height}`;

export const size = (bytes) => {
  const unit = ["B", "kB", "MB", "GB"].findIndex((_, index) => bytes < 1000 ** (index + 1));
  return `${Number((bytes / 1000 ** unit).toPrecision(3))} ${["B", "kB", "MB", "GB"][unit]}`;
};

export class Queue {
  /**
   * @param {HTMLElement} list
   * @param {{onChange: () => void, onShow: (item) => void, onReady: (item) => void, onRemove: (item) => void, say: (text) => void}} listeners
   */
  constructor(list, listeners) {
    this.list = list;
    this.listeners = listeners;
    this.items = [];
    this.limits = { bytes: Infinity };
  }

  get ready() {
    return this.items.filter((item) => item.state === "ready");
  }

  add(file) {
    const item = { file, name: file.name || "pasted.png", state: "ready", job: null, abort: new AbortController() };
    this.items.push(item);
    this.build(item);
    if (file.size > this.limits.bytes) {
      this.fail(item, `Larger than the ${size(this.limits.bytes)} that this server takes.`);
    } else this.update(item, "ready", `${size(file.size)}, ready`);
    thumbnail(item);
  }

  build(item) {
    const element = document.createElement("li");
    element.className = "item";
    element.innerHTML = `<canvas class="thumb" width="112" height="112" aria-hidden="true"></canvas>
      <div><p class="name"></p><p class="note"></p><progress max="1" value="0" hidden></progress></div>
      <div class="buttons"></div>`;
    item.element = element;
    item.part = (selector) => element.querySelector(selector);
    item.part(".name").textContent = item.name;
    item.part(".name").title = item.name;
    item.part("progress").setAttribute("aria-label", `Progress of ${item.name}`);
    this.list.append(element);
  }

  update(item, state, note, share = null) {
    const before = item.state;
    item.state = state;
    item.element.className = `item ${state}${item.shown ? " shown" : ""}`;
    item.part(".note").textContent = note;
    const bar = item.part("progress");
    bar.hidden = !["sending", "waiting", "running"].includes(state);
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    if (before !== state || !item.part("button")) this.buttons(item);
    this.listeners.onChange();
  }

  buttons(item) {
    const focused = item.part(".buttons").contains(document.activeElement);
    const button = (text, action, kind = "") => {
      const element = Object.assign(document.createElement("button"), { type: "button", textContent: text, className: kind });
      element.setAttribute("aria-label", `${text}: ${item.name}`);
      element.addEventListener("click", action);
      return element;
    };
    const made = [];
    if (item.state === "done") {
      if (item.job.view) made.push(button("Compare", () => this.listeners.onShow(item)));
      made.push(button("Download", () => this.save(item), "primary"));
    }
    if (item.state === "failed") made.push(button("Try again", () => this.again(item)));
    const busy = ["sending", "waiting", "running"].includes(item.state);
    made.push(button(busy ? "Cancel" : "Remove", () => this.remove(item), "quiet"));
    item.part(".buttons").replaceChildren(...made);
    if (focused) made[0].focus();
  }

  save(item) {
    const stem = item.name.replace(/\.[^.]*$/, "");
    const { before, after, format } = item.job.result;
    const scale = after[0] / before[0];
    const suffix = { jpeg: "jpg", tiff: "tif" }[format] ?? format;
    api.download(item.job.id, `${stem}${scale > 1 ? `-x${scale}` : "-enhanced"}.${suffix}`).catch((error) => this.fail(item, error.message));
  }

  fail(item, message) {
    const plain = message.startsWith(`${item.name}: `) ? message.slice(item.name.length + 2) : message;
    this.update(item, "failed", plain[0].toUpperCase() + plain.slice(1));
    this.listeners.say(`${item.name}: ${plain}`);
  }

  again(item) {
    if (item.job) api.forget(item.job.id);
    Object.assign(item, { job: null, abort: new AbortController() });
    this.update(item, "ready", `${size(item.file.size)}, ready`);
  }

  remove(item) {
    const index = this.items.indexOf(item);
    this.items.splice(index, 1);
    item.abort.abort();
    if (item.job) api.forget(item.job.id);
    const focused = item.element.contains(document.activeElement);
    item.element.remove();
    if (focused) (this.items[Math.min(index, this.items.length - 1)]?.part("button") ?? document.getElementById("files")).focus();
    this.listeners.onRemove(item);
    this.listeners.onChange();
  }

  /** Start all that is ready. */
  start(options) {
    for (const item of this.ready) {
      item.options = options;
      this.update(item, "waiting", "waiting for its turn");
    }
    for (let worker = 0; worker < AT_ONCE; worker += 1) this.work();
  }

  async work() {
    for (;;) {
      const item = this.items.find((one) => one.state === "waiting" && !one.taken);
      const busy = this.items.filter((one) => one.taken).length;
      if (!item || busy >= AT_ONCE) return;
      item.taken = true;
      try {
        await this.run(item);
      } catch (error) {
        if (error.name !== "AbortError") this.fail(item, error.message);
      }
      item.taken = false;
    }
  }

  async run(item) {
    const { signal } = item.abort;
    for (;;) {
      try {
        const sent = (share) => this.update(item, "sending", `sending, ${Math.round(share * 100)} %`, share);
        item.job = await api.start(item.file, item.options, sent, signal);
        break;
      } catch (error) {
        if (![429, 503].includes(error.status)) throw error;
        this.update(item, "waiting", "the server is busy, waiting for a place");
        await wait(1000 * (error.retryAfter || 2));
        if (signal.aborted) return;
      }
    }
    while (!signal.aborted && !this.show(item)) {
      await wait(ASK_EVERY);
      if (!signal.aborted) item.job = await api.job(item.job.id);
    }
    if (signal.aborted) api.forget(item.job.id);
  }

  /** Show how far a job is; true once there is nothing more to come. */
  show(item) {
    const { job } = item;
    if (job.state === "failed") {
      this.fail(item, job.error.message);
      return true;
    }
    if (job.state !== "done") {
      const known = job.state === "running" && job.tiles;
      this.update(item, job.state, known ? `${job.tiles_done} of ${job.tiles} tiles` : "waiting for its turn",
        known ? job.tiles_done / job.tiles : null);
      return false;
    }
    const { before, after, bytes, seconds } = job.result;
    const first = item.state !== "done";
    const note = `${sides(before)} to ${sides(after)}, ${size(bytes)}, ${seconds.toFixed(1)} s`;
    this.update(item, "done", job.view || job.view_failed ? note : `${note}, preparing the preview`);
    if (first) this.listeners.say(`${item.name} is done.`);
    if (job.view) {
      this.buttons(item);
      finishedThumbnail(item);
      this.listeners.onReady(item);
    }
    return Boolean(job.view || job.view_failed);
  }
}

async function thumbnail(item) {
  if (item.file.size > 12e6) return; // decoding a huge picture twice is not worth a small one
  try {
    paint(item, await createImageBitmap(item.file));
  } catch { /* a format that the browser does not know, or a damaged file: the server will say */ }
}

async function finishedThumbnail(item) {
  try {
    paint(item, await api.tile(item.job.id, "after", 0, 0, 0));
  } catch { /* removed meanwhile */ }
}

function paint(item, bitmap) {
  const canvas = item.part(".thumb");
  const scale = Math.max(canvas.width / bitmap.width, canvas.height / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  bitmap.close();
}
