// Ties the parts of the page together.

import * as api from "./api.js";
import { chosen, offer } from "./options.js";
import { Queue } from "./queue.js";
import { close, show } from "./viewer.js";

const $ = (id) => document.getElementById(id);
let shown = null;

const queue = new Queue($("queue"), {
  onChange: refresh,
  onReady: (item) => shown ?? open(item),
  onShow: (item) => {
    open(item);
    $("viewer").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    $("viewer-title").focus({ preventScroll: true });
  },
  onRemove: (item) => item === shown && close(),
  say: (text) => { $("status").textContent = text; },
});

function open(item) {
  mark(null);
  show(item.job, item.name, () => mark(null));
  mark(item);
}

function mark(item) {
  for (const one of [shown, item]) one?.element.classList.toggle("shown", one === item);
  if (shown) shown.shown = false;
  if (item) item.shown = true;
  shown = item;
}

function refresh() {
  const ready = queue.ready.length;
  document.body.classList.toggle("busy", queue.items.length > 0);
  $("work").hidden = queue.items.length === 0;
  $("start").disabled = ready === 0;
  $("start").textContent = ready > 1 ? `Enhance ${ready} pictures` : "Enhance";
}

function add(files) {
  for (const file of files) queue.add(file);
  if (files.length) $("status").textContent = `${files.length === 1 ? files[0].name : `${files.length} pictures`} added.`;
}

function listen() {
  $("files").addEventListener("change", () => {
    add([...$("files").files]);
    $("files").value = "";
  });
  $("options").addEventListener("submit", (event) => {
    event.preventDefault();
    queue.start(chosen());
  });
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
  addEventListener("pagehide", (event) => {
    if (!event.persisted) for (const item of queue.items) if (item.job) api.forget(item.job.id);
  });
}

async function begin() {
  listen();
  for (;;) {
    try {
      const { models, limits } = await api.models();
      offer(models);
      queue.limits = limits;
      $("bounds").textContent = `, up to ${limits.pixels / 1e6} megapixels each`;
      return;
    } catch (error) {
      if (error.status !== 503) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

begin().catch((error) => { $("bounds").textContent = `. ${error.message}`; });
