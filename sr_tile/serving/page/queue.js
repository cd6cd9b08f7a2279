// Pictures, and what becomes of each: added, sent, worked on, done, as often as is asked for.

import * as api from "./api.js";
import { drop, keep, keepFile, newId } from "./kept.js";

const AT_ONCE = 2;
const ASK_EVERY = 300; // milliseconds
const LARGE = 12e6; // bytes of a file beyond which decoding it for a small picture is not worth it
const UNDER_WAY = ["waiting", "sending", "running"];
const OF_THE_FILE = ["too_large", "unknown_format", "unreadable_image"];
const OF_THE_SETTINGS = ["bad_option", "unknown_model", "cannot_store"];
const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));
const sides = ([height, width]) => `${width} × ${height}`;
const upper = (text) => text[0].toUpperCase() + text.slice(1);

export const size = (bytes) => {
  const unit = ["B", "kB", "MB", "GB"].findIndex((_, index) => bytes < 1000 ** (index + 1));
  return `${Number((bytes / 1000 ** unit).toPrecision(3))} ${["B", "kB", "MB", "GB"][unit]}`;
};

export class Queue {
  /**
   * @param {HTMLElement} list
   * @param {{onChange: () => void, onShow: (item, run) => void, onReady: (item, run) => void, onRemove: (item) => void, say: (text) => void}} listeners
   */
  constructor(list, listeners) {
    this.list = list;
    this.listeners = listeners;
    this.items = [];
    this.limits = { bytes: Infinity, pixels: Infinity, side: Infinity };
    this.received = null;
  }

  /** Runs that are done, of all pictures. */
  get done() {
    return this.items.flatMap((item) => item.runs.filter((run) => run.state === "done"));
  }

  async add(file) {
    const item = this.item({ id: newId(), added: performance.timeOrigin + performance.now(), file, name: file.name || "pasted.png", runs: [] });
    item.refused = this.refusal(file);
    this.render(item);
    if (item.refused) return this.listeners.say(`${item.name}: ${item.refused}`);
    await keepFile(item.id, file);
    this.keep(item);
    await this.measure(item);
    return null;
  }

  /** A picture that was here before the page was loaded again. */
  restore(record) {
    const item = this.item(record);
    for (const run of item.runs) {
      run.abort = new AbortController();
      run.known = run.state === "done";
      if (run.known) item.current = Object.assign(run, { note: about(run.job) });
      if (run.job && run.state !== "failed") this.follow(item, run);
      else if (UNDER_WAY.includes(run.state)) run.state = "waiting";
    }
    this.render(item);
    this.measure(item);
  }

  item({ id, added, file, name, runs }) {
    const item = { id, added, file, name, runs, size: null, refused: null, current: null };
    this.items.push(item);
    this.build(item);
    return item;
  }

  /** Why a file need not be sent at all; null where the server is to see it. */
  refusal(file) {
    const suffix = /\.[^.\s]{1,5}$/.exec(file.name?.toLowerCase() ?? "")?.[0];
    const isTaken = !suffix || !this.received || this.received.suffixes.has(suffix) || this.received.types.has(file.type);
    if (!isTaken) return `This server does not take ${suffix} files. It takes ${this.received.names}.`;
    if (file.size > this.limits.bytes) return `Larger than the ${size(this.limits.bytes)} that this server takes.`;
    return null;
  }

  /** Show the picture, and refuse it where it has more pixels than the server takes. */
  async measure(item) {
    const image = new Image();
    image.src = URL.createObjectURL(item.file);
    try {
      await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject }));
      const { naturalWidth: width, naturalHeight: height } = image;
      item.size = { width, height };
      const { pixels, side } = this.limits;
      if (width * height > pixels) item.refused = `${width} × ${height}: more than the ${pixels / 1e6} megapixels that this server takes.`;
      else if (Math.max(width, height) > side) item.refused = `${width} × ${height}: a side has at most ${side} pixels on this server.`;
      else if (item.file.size < LARGE && !item.current) paint(item, image, width, height);
      if (item.refused) this.listeners.say(`${item.name}: ${item.refused}`);
      this.render(item);
    } catch { /* a format that the browser does not know, or a damaged file: the server will say */ }
    URL.revokeObjectURL(image.src);
  }

  keep({ id, added, name, runs, removed }) {
    if (removed) return;
    keep({ id, added, name, runs: runs.map(({ options, label, key, state, job, error }) => ({ options, label, key, state, job, error })) });
  }

  build(item) {
    const element = document.createElement("li");
    element.className = "item";
    element.innerHTML = `<canvas class="thumb" width="112" height="112" aria-hidden="true"></canvas>
      <div><p class="name"></p><p class="note"></p><progress max="1" value="0" hidden></progress></div>
      <div class="results" role="group" hidden></div>
      <div class="buttons"></div>`;
    item.element = element;
    item.part = (selector) => element.querySelector(selector);
    item.part(".name").textContent = item.name;
    item.part(".name").title = item.name;
    item.part("progress").setAttribute("aria-label", `Progress of ${item.name}`);
    item.part(".results").setAttribute("aria-label", `Results of ${item.name}`);
    this.list.append(element);
  }

  /** What is told of a picture: its state, a line, and how far it is where that is known. */
  told(item) {
    if (item.refused) return ["failed", item.refused];
    const busy = item.runs.find((run) => UNDER_WAY.includes(run.state) && run.note) ?? item.runs.find((run) => UNDER_WAY.includes(run.state));
    if (busy) return [busy.state, busy.note || "waiting for its turn", busy.share];
    const last = item.runs.at(-1);
    if (last?.state === "failed") return ["failed", last.error.message];
    if (item.current) return ["done", item.current.note];
    const pixels = item.size ? `${item.size.width} × ${item.size.height}, ` : "";
    return ["ready", `${pixels}${size(item.file.size)}, ready`];
  }

  render(item) {
    const [state, note, share] = this.told(item);
    item.element.className = `item ${state}${item.shown ? " shown" : ""}`;
    item.part(".note").textContent = note;
    const bar = item.part("progress");
    bar.hidden = !UNDER_WAY.includes(state);
    if (share === undefined) bar.removeAttribute("value");
    else bar.value = share;
    const done = item.runs.filter((run) => run.state === "done");
    const drawn = JSON.stringify([state, item.current?.key, Boolean(item.current?.job.view), done.map((run) => run.key)]);
    if (drawn !== item.drawn) {
      item.drawn = drawn;
      this.results(item, done);
      this.buttons(item, state);
    }
    this.listeners.onChange();
  }

  results(item, done) {
    const place = item.part(".results");
    const focused = done.findIndex((_, index) => place.children[index] === document.activeElement);
    place.hidden = done.length < 2;
    place.replaceChildren(...done.map((run) => {
      const chip = Object.assign(document.createElement("button"), { type: "button", className: "chip", textContent: run.label });
      chip.setAttribute("aria-pressed", run === item.current);
      chip.addEventListener("click", () => this.choose(item, run));
      return chip;
    }));
    place.children[focused]?.focus();
  }

  /** Turn to another result of a picture. */
  choose(item, run) {
    item.current = run;
    this.render(item);
    if (run.job.view) this.listeners.onShow(item, run);
  }

  buttons(item, state) {
    const focused = item.part(".buttons").contains(document.activeElement);
    const made = [];
    const button = (text, action, kind = "") => {
      const element = Object.assign(document.createElement("button"), { type: "button", textContent: text, className: kind });
      element.setAttribute("aria-label", `${text}: ${item.name}`);
      element.addEventListener("click", action);
      made.push(element);
    };
    if (item.current && !UNDER_WAY.includes(state)) {
      if (item.current.job.view) button("Compare", () => this.listeners.onShow(item, item.current, true));
      button("Download", () => this.save(item), "primary");
    }
    const last = item.runs.at(-1);
    if (last?.state === "failed" && ![...OF_THE_FILE, ...OF_THE_SETTINGS].includes(last.error.code)) button("Try again", () => this.again(item, last));
    if (UNDER_WAY.includes(state)) button("Cancel", () => this.cancel(item), "quiet");
    else button("Remove", () => this.remove(item), "quiet");
    item.part(".buttons").replaceChildren(...made);
    if (focused) made[0].focus();
  }

  save(item) {
    const { before, after, format } = item.current.job.result;
    const scale = after[0] / before[0];
    const suffix = { jpeg: "jpg", tiff: "tif" }[format] ?? format;
    const name = `${item.name.replace(/\.[^.]*$/, "")}${scale > 1 ? `-x${Number(scale.toFixed(2))}` : "-enhanced"}.${suffix}`;
    api.download(item.current.job.id, name).catch((error) => this.fail(item, item.current, error));
  }

  fail(item, run, { message, code, status }) {
    const plain = message.startsWith(`${item.name}: `) ? message.slice(item.name.length + 2) : message;
    run.state = "failed";
    run.error = { message: upper(plain), code: code || (status === 413 ? "too_large" : "") };
    if (item.current === run) item.current = null;
    this.keep(item);
    this.render(item);
    this.listeners.say(`${item.name}: ${plain}`);
  }

  again(item, run) {
    if (run.job) api.forget(run.job.id);
    Object.assign(run, { job: null, note: "", error: null, state: "waiting", abort: new AbortController() });
    this.keep(item);
    this.render(item);
    this.work();
  }

  /** Give up what is under way; a picture of which nothing is done goes as well. */
  cancel(item) {
    if (!item.runs.some((run) => run.state === "done")) return this.remove(item);
    this.forget(item.runs.filter((run) => UNDER_WAY.includes(run.state)));
    item.runs = item.runs.filter((run) => !UNDER_WAY.includes(run.state));
    this.keep(item);
    return this.render(item);
  }

  forget(runs) {
    for (const run of runs) {
      run.abort.abort();
      if (run.job) api.forget(run.job.id);
    }
  }

  remove(item) {
    const index = this.items.indexOf(item);
    item.removed = true;
    this.items.splice(index, 1);
    this.forget(item.runs);
    drop(item.id);
    const focused = item.element.contains(document.activeElement);
    item.element.remove();
    if (focused) (this.items[Math.min(index, this.items.length - 1)]?.part(".buttons button") ?? document.getElementById("files")).focus();
    this.listeners.onRemove(item);
    this.listeners.onChange();
  }

  /** Pictures for which there is something to do: not one that cannot be done, nor what was done in this way already. */
  wanting(chosen) {
    return this.items.filter((item) => {
      if (item.refused || item.runs.some((run) => OF_THE_FILE.includes(run.error?.code))) return false;
      const key = JSON.stringify(chosen(item.size).options);
      return !item.runs.some((run) => run.key === key);
    });
  }

  /** Do all for which there is something to do; `chosen` says what, by a picture's size. */
  start(chosen) {
    const wanting = this.wanting(chosen);
    this.listeners.say(`${wanting.length === 1 ? wanting[0].name : `${wanting.length} pictures`}: under way.`);
    for (const item of wanting) {
      const { options, label } = chosen(item.size);
      item.runs = item.runs.filter((run) => run.state !== "failed");
      item.runs.push({ key: JSON.stringify(options), options, label, state: "waiting", job: null, abort: new AbortController() });
      this.keep(item);
      this.render(item);
    }
    this.work();
  }

  work() {
    for (let worker = 0; worker < AT_ONCE; worker += 1) this.worker();
  }

  async worker() {
    for (;;) {
      const all = this.items.flatMap((item) => item.runs.map((run) => [item, run]));
      const [item, run] = all.find(([, one]) => one.state === "waiting" && !one.taken && !one.job) ?? [];
      if (!run || all.filter(([, one]) => one.taken).length >= AT_ONCE) return;
      run.taken = true;
      try {
        if (await this.send(item, run)) await this.follow(item, run);
      } catch (error) {
        if (error.name !== "AbortError") this.fail(item, run, error);
      }
      run.taken = false;
    }
  }

  /** Upload a picture; false where it was given up. */
  async send(item, run) {
    const { signal } = run.abort;
    const tell = (state, note, share) => {
      Object.assign(run, { state, note, share });
      this.render(item);
    };
    while (!signal.aborted) {
      try {
        run.job = await api.start(item.file, run.options, (share) => tell("sending", `sending, ${Math.round(share * 100)} %`, share), signal);
        this.keep(item);
        return true;
      } catch (error) {
        if (![429, 503].includes(error.status)) throw error;
        tell("waiting", "the server is busy, waiting for a place");
        await wait(1000 * (error.retryAfter || 2));
      }
    }
    return false;
  }

  /** Ask for a job until there is nothing more to come. */
  async follow(item, run) {
    const { signal } = run.abort;
    try {
      for (;;) {
        const job = await api.job(run.job.id);
        if (signal.aborted) return api.forget(job.id);
        run.job = job;
        if (this.take(item, run)) return null;
        await wait(ASK_EVERY);
      }
    } catch (error) {
      if (signal.aborted) return null;
      if (error.status === 404 && run.known) return this.gone(item, run);
      return this.fail(item, run, error);
    }
  }

  /** What the server did not keep any longer. */
  gone(item, run) {
    item.runs = item.runs.filter((one) => one !== run);
    if (item.current === run) item.current = item.runs.findLast((one) => one.state === "done") ?? null;
    this.keep(item);
    this.render(item);
  }

  /** See to it that the server keeps what is done for as long as this page is open. */
  touch() {
    for (const item of this.items) {
      if (!item.refused) this.keep(item); // else another tab would take it for one of a tab that is gone
      for (const run of item.runs.filter((one) => one.state === "done")) {
        api.job(run.job.id).catch((error) => error.status === 404 && this.gone(item, run));
      }
    }
  }

  /** Show how far a job is; true once there is nothing more to come. */
  take(item, run) {
    const { job } = run;
    if (job.state === "failed") {
      this.fail(item, run, job.error);
      return true;
    }
    if (job.state !== "done") {
      const known = job.state === "running" && job.tiles;
      run.state = job.state;
      run.note = known ? `${job.tiles_done} of ${job.tiles} tiles` : "waiting for its turn";
      run.share = known ? job.tiles_done / job.tiles : undefined;
      this.render(item);
      return false;
    }
    const isNew = !run.known;
    run.known = true;
    run.state = "done";
    run.note = about(job);
    if (isNew || !item.current) item.current = run;
    const isAll = Boolean(job.view || job.view_failed);
    if (!isAll) run.note += ", preparing the preview";
    if (isNew) {
      this.keep(item);
      this.listeners.say(`${item.name} is done.`);
    }
    this.render(item);
    if (job.view && item.current === run) {
      finishedThumbnail(item, run);
      this.listeners.onReady(item, run);
    }
    return isAll;
  }
}

function about({ result: { before, after, bytes, seconds } }) {
  return `${sides(before)} to ${sides(after)}, ${size(bytes)}, ${seconds.toFixed(1)} s`;
}

async function finishedThumbnail(item, run) {
  try {
    const bitmap = await api.tile(run.job.id, "after", 0, 0, 0);
    paint(item, bitmap, bitmap.width, bitmap.height);
    bitmap.close();
  } catch { /* removed meanwhile */ }
}

function paint(item, image, imageWidth, imageHeight) {
  const canvas = item.part(".thumb");
  const scale = Math.max(canvas.width / imageWidth, canvas.height / imageHeight);
  const [width, height] = [imageWidth * scale, imageHeight * scale];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}
