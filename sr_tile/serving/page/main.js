// Ties the parts of the page together.

import * as api from "./api.js";
import { restored } from "./kept.js";
import { chosen, offer } from "./options.js";
import { Queue } from "./queue.js";
import { close, show } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const NAMES = { webp: "WebP", jpeg2000: "JPEG 2000", raw: "raw files of cameras", pnm: "PPM" };
let shown = null; // { item, run }
let isOffered = false;

const queue = new Queue($("queue"), {
  onChange: refresh,
  onReady: (item, run) => (!shown || shown.item === item) && open(item, run),
  onShow: (item, run, isAsked) => {
    open(item, run);
    if (!isAsked) return;
    $("viewer").scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    $("viewer-title").focus({ preventScroll: true });
  },
  onRemove: (item) => item === shown?.item && close(),
  say: (text) => { $("status").textContent = text; },
});

function open(item, run) {
  const same = shown?.item === item;
  mark(null);
  mark({ item, run }); // before the canvas is measured: beside the list it has another size
  $("viewer").hidden = false;
  show(run.job, item.name, closed, same);
  results();
}

function closed() {
  const item = shown?.item;
  mark(null);
  if (item && !item.removed) (item.part("[aria-label^=Compare]") ?? item.part("button"))?.focus();
}

function mark(next) {
  for (const item of [shown?.item, next?.item]) if (item) item.element.classList.toggle("shown", item.shown = item === next?.item);
  shown = next;
  document.body.classList.toggle("comparing", Boolean(next));
}

/** The results of the shown picture, to choose from. */
function results() {
  const done = shown?.item.runs.filter((run) => run.state === "done") ?? [];
  $("result").hidden = done.length < 2;
  const key = done.map((run) => run.label).join("\n");
  if (key !== $("result").dataset.key) $("result").replaceChildren(...done.map((run, index) => new Option(run.label, index)));
  $("result").dataset.key = key;
  $("result").value = done.indexOf(shown?.run);
}

function refresh() {
  const wanting = isOffered ? queue.wanting(chosen) : [];
  const again = wanting.filter((item) => item.runs.some((run) => run.state === "done")).length;
  document.body.classList.toggle("busy", queue.items.length > 0);
  $("work").hidden = queue.items.length === 0;
  $("start").disabled = wanting.length === 0;
  $("start").textContent = wanting.length > 1 ? `Enhance ${wanting.length} pictures` : again ? "Enhance again" : "Enhance";
  $("all").hidden = queue.done.length < 2;
  if (shown && !shown.item.runs.includes(shown.run)) close();
  if (shown) results();
}

function add(files) {
  for (const file of files) queue.add(file);
  const taken = queue.items.slice(-files.length).filter((item) => !item.refused);
  if (files.length && taken.length === files.length) {
    $("status").textContent = `${files.length === 1 ? queue.items.at(-1).name : `${files.length} pictures`} added.`;
  }
}

function listen() {
  $("files").addEventListener("change", () => {
    add([...$("files").files]);
    $("files").value = "";
  });
  $("options").addEventListener("submit", (event) => {
    event.preventDefault();
    queue.start(chosen);
  });
  $("result").addEventListener("change", () => {
    const run = shown.item.runs.filter((one) => one.state === "done")[$("result").value];
    queue.choose(shown.item, run);
  });
  $("all").addEventListener("click", () => api.downloadAll(queue.done.map((run) => run.job.id))
    .catch((error) => { $("status").textContent = error.message; }));
  $("clear").addEventListener("click", () => [...queue.items].forEach((item) => queue.remove(item)));
  let depth = 0; // dragenter and dragleave also come from the elements inside
  const over = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(0);
    add([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => add([...event.clipboardData.files]));
}

/** What the server takes, for the file dialog and for files that are dropped. */
function take({ received, limits }) {
  const suffixes = new Set(Object.values(received).flat());
  const types = new Set(Object.keys(received).map((name) => `image/${name}`));
  const names = Object.keys(received).map((name) => NAMES[name] ?? name.toUpperCase());
  queue.received = { suffixes, types, names: `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` };
  queue.limits = limits;
  $("files").accept = [...suffixes, ...types].join(",");
  $("bounds").textContent = `, up to ${limits.pixels / 1e6} megapixels each`;
  $("kept").textContent = `, which forgets them ${Math.ceil(limits.keep_seconds / 60)} minutes after this page is closed`;
  setInterval(() => queue.touch(), (1000 * limits.keep_seconds) / 3);
}

async function begin() {
  listen();
  for (;;) {
    try {
      const served = await api.models();
      offer(served, refresh);
      isOffered = true;
      take(served);
      for (const record of await restored(served.limits.keep_seconds)) queue.restore(record);
      queue.work();
      refresh();
      return;
    } catch (error) {
      if (error.status !== 503) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

begin().catch((error) => { $("bounds").textContent = `. ${error.message}`; });
