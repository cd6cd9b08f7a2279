// Before and after on one canvas, with a boundary that moves.

import { Pyramid } from "./pyramid.js";

const $ = (id) => document.getElementById(id);
const clamp = (value, least, most) => Math.min(most, Math.max(least, value));
const LARGEST = 32; // screen pixels per pixel of the result

const canvas = $("canvas");
const stage = $("stage");
const divider = $("divider");
const context = canvas.getContext("2d");

let sides = null; // { before, after }: Pyramid
let world = { width: 1, height: 1 };
let camera = { x: 0, y: 0, zoom: 1 }; // zoom in device pixels per world pixel
let split = 0.5;
let fitted = true;
let frame = 0;
let onClose = () => {};

const ratio = () => window.devicePixelRatio || 1;
const fitZoom = () => Math.min(canvas.width / world.width, canvas.height / world.height);

/** Show a job whose preview is ready; `same`: another result of the picture that is shown, at the same place. */
export function show(job, title, closed, same = false) {
  const grown = same && sides && !fitted ? job.view.after.width / world.width : 0;
  release();
  onClose = closed;
  world = job.view.after;
  sides = {};
  for (const side of ["before", "after"]) sides[side] = new Pyramid(job.id, side, job.view[side], world.width, redraw);
  stage.classList.toggle("alpha", sides.after.clear);
  $("viewer").hidden = false;
  $("viewer-title").textContent = title;
  canvas.setAttribute("aria-label", `${title}: on the left before, on the right after`);
  resize();
  if (grown) {
    camera = { x: camera.x * grown, y: camera.y * grown, zoom: camera.zoom / grown };
    settle();
  } else fit();
  move(same ? split : 0.5);
}

/** Close the comparison. */
export function close() {
  release();
  if (document.fullscreenElement) document.exitFullscreen();
  $("viewer").hidden = true;
  onClose();
}

function release() {
  if (sides) for (const side of Object.values(sides)) side.close();
  sides = null;
  delete stage.dataset.settled;
}

function redraw() {
  if (!frame) frame = requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  if (!sides) return;
  const edge = Math.round(split * canvas.width);
  context.clearRect(0, 0, canvas.width, canvas.height);
  sides.before.draw(context, camera, 0, edge, canvas.height);
  sides.after.draw(context, camera, edge, canvas.width, canvas.height);
  $("zoom").textContent = `${Number(((camera.zoom / ratio()) * 100).toPrecision(3))} %`;
  const settled = (sides.before.settled || edge === 0) && (sides.after.settled || edge === canvas.width);
  stage.dataset.settled = String(settled);
  $("loading").hidden = settled || sides.before.tiles.size + sides.after.tiles.size > 0;
}

/** Keep the picture in sight: centred where it is smaller than the stage, else without a gap. */
function settle() {
  for (const [axis, length, screen] of [["x", world.width, canvas.width], ["y", world.height, canvas.height]]) {
    const seen = screen / camera.zoom;
    camera[axis] = seen >= length ? (length - seen) / 2 : clamp(camera[axis], 0, length - seen);
  }
  redraw();
}

function fit() {
  fitted = true;
  camera.zoom = Math.min(fitZoom(), ratio() * 4);
  settle();
}

/** Zoom so that the point (x, y) of the screen, in device pixels, stays where it is. */
function zoomTo(zoom, x = canvas.width / 2, y = canvas.height / 2) {
  fitted = false;
  const next = clamp(zoom, Math.min(fitZoom(), ratio()) / 2, LARGEST * ratio());
  camera.x += x / camera.zoom - x / next;
  camera.y += y / camera.zoom - y / next;
  camera.zoom = next;
  settle();
}

function pan(x, y) {
  fitted = false;
  camera.x -= x / camera.zoom;
  camera.y -= y / camera.zoom;
  settle();
}

function move(share) {
  split = clamp(share, 0, 1);
  stage.style.setProperty("--split", `${split * 100}%`);
  const percent = Math.round(split * 100);
  divider.setAttribute("aria-valuenow", percent);
  divider.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
  redraw();
}

function resize() {
  const box = stage.getBoundingClientRect();
  const width = Math.round(box.width * ratio());
  const height = Math.round(box.height * ratio());
  if (!width || (width === canvas.width && height === canvas.height)) return;
  [canvas.width, canvas.height] = [width, height];
  if (fitted) fit();
  else settle();
}

const point = (event) => {
  const box = canvas.getBoundingClientRect();
  return { x: (event.clientX - box.left) * ratio(), y: (event.clientY - box.top) * ratio() };
};

function listenToPointers() {
  const held = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, point(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const old = held.get(event.pointerId);
    if (!old) return;
    const now = point(event);
    const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
    held.set(event.pointerId, now);
    if (other) {
      const spread = (one) => Math.hypot(one.x - other.x, one.y - other.y) || 1;
      pan((now.x - old.x) / 2, (now.y - old.y) / 2);
      zoomTo(camera.zoom * (spread(now) / spread(old)), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else pan(now.x - old.x, now.y - old.y);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => held.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = point(event);
    const lines = event.deltaMode === 1 ? 18 : 1;
    zoomTo(camera.zoom * Math.exp(-event.deltaY * lines * 0.0016), x, y);
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => {
    const { x, y } = point(event);
    if (fitted) zoomTo(ratio(), x, y);
    else fit();
  });
  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    if (divider.hasPointerCapture(event.pointerId)) move(point(event).x / canvas.width);
  });
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("viewer").requestFullscreen();
}

function listenToKeys() {
  const steps = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1 };
  divider.addEventListener("keydown", (event) => {
    if (event.key in steps) move(split + steps[event.key]);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(1);
    else return;
    event.preventDefault();
  });
  const far = () => 60 * ratio();
  const actions = {
    "+": () => zoomTo(camera.zoom * 1.5),
    "=": () => zoomTo(camera.zoom * 1.5),
    "-": () => zoomTo(camera.zoom / 1.5),
    0: fit,
    1: () => zoomTo(ratio()),
    f: fullScreen,
    ArrowLeft: () => pan(far(), 0),
    ArrowRight: () => pan(-far(), 0),
    ArrowUp: () => pan(0, far()),
    ArrowDown: () => pan(0, -far()),
  };
  $("viewer").addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.target === $("result")) return;  // the divider and the list have arrows of their own
    if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    actions[event.key]();
    event.preventDefault();
  });
  $("zoom-in").addEventListener("click", actions["+"]);
  $("zoom-out").addEventListener("click", actions["-"]);
  $("fit").addEventListener("click", fit);
  $("actual").addEventListener("click", actions[1]);
  $("close").addEventListener("click", close);
  $("full").hidden = !document.fullscreenEnabled;
  $("full").addEventListener("click", fullScreen);
  document.addEventListener("fullscreenchange", () => $("full").setAttribute("aria-pressed", Boolean(document.fullscreenElement)));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || $("viewer").hidden || document.querySelector("dialog[open]")) return;
    if (document.fullscreenElement) document.exitFullscreen();
    else close();
  });
}

listenToPointers();
listenToKeys();
new ResizeObserver(resize).observe(stage);
