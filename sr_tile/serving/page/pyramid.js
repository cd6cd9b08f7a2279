// Draws an image of any size from tiles: those that are seen, at the size at which they are seen.

import { tile } from "./api.js";

const MOST_TILES = 160; // about a megabyte each
const MOST_FETCHES = 6;

export class Pyramid {
  /**
   * @param {string} id of the job.
   * @param {"before"|"after"} side
   * @param {{width, height, levels, tile, suffix}} view what the server says of it.
   * @param {number} world width of the result in pixels, the common coordinates of both sides.
   * @param {() => void} onTile is called when there is more to draw.
   */
  constructor(id, side, view, world, onTile) {
    Object.assign(this, { id, side, view, onTile });
    this.unit = world / view.width; // world pixels per pixel of this side
    this.tiles = new Map(); // key -> bitmap, least recently drawn first
    this.fetches = new Map(); // key -> AbortController
    this.missing = new Set();
    this.clear = view.suffix === "png";
  }

  close() {
    this.closed = true;
    for (const controller of this.fetches.values()) controller.abort();
    for (const bitmap of this.tiles.values()) bitmap.close();
    this.tiles.clear();
  }

  /** World pixels per pixel of a level. */
  step(level) {
    return this.unit * 2 ** (this.view.levels - 1 - level);
  }

  /** The coarsest level that is no coarser than the screen. */
  levelFor(zoom) {
    for (let level = 0; level < this.view.levels; level += 1) if (this.step(level) * zoom <= 1.15) return level;
    return this.view.levels - 1;
  }

  /**
   * Draw what lies between `left` and `right` on the screen.
   * @param {CanvasRenderingContext2D} context
   * @param {{x, y, zoom}} camera world coordinates of the screen's corner; device pixels per world pixel.
   */
  draw(context, camera, left, right, height) {
    const target = this.levelFor(camera.zoom);
    const wanted = [];
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, height);
    context.clip();
    // Both sides alike, so that the comparison is fair: pixels show as squares only from far in.
    context.imageSmoothingEnabled = camera.zoom < 6 * (window.devicePixelRatio || 1);
    context.imageSmoothingQuality = "high";
    for (let level = 0; level <= target; level += 1) {
      const size = this.view.tile * this.step(level);
      const shrink = 2 ** (this.view.levels - 1 - level);
      const columns = Math.ceil(Math.ceil(this.view.width / shrink) / this.view.tile);
      const rows = Math.ceil(Math.ceil(this.view.height / shrink) / this.view.tile);
      const first = (corner) => Math.max(0, Math.floor(corner / size));
      const last = (corner, count) => Math.min(count - 1, Math.floor(corner / size));
      for (let row = first(camera.y); row <= last(camera.y + height / camera.zoom, rows); row += 1) {
        const end = last(camera.x + right / camera.zoom, columns);
        for (let column = first(camera.x + left / camera.zoom); column <= end; column += 1) {
          const key = `${level}/${column}/${row}`;
          const bitmap = this.tiles.get(key);
          if (bitmap) this.paint(context, camera, bitmap, level, column, row);
          if (level === target || level === 0) wanted.push(key);
        }
      }
    }
    context.restore();
    this.load(wanted);
  }

  paint(context, camera, bitmap, level, column, row) {
    this.tiles.delete(`${level}/${column}/${row}`); // to the end: used last
    this.tiles.set(`${level}/${column}/${row}`, bitmap);
    const step = this.step(level) * camera.zoom;
    const side = this.view.tile;
    // Whole device pixels, so that neighbours meet without a seam; never beyond the picture.
    const x = Math.round((column * side * step) - camera.x * camera.zoom);
    const y = Math.round((row * side * step) - camera.y * camera.zoom);
    const right = Math.min((column * side + bitmap.width) * step, this.view.width * this.unit * camera.zoom);
    const bottom = Math.min((row * side + bitmap.height) * step, this.view.height * this.unit * camera.zoom);
    const width = Math.round(right - camera.x * camera.zoom) - x;
    const height = Math.round(bottom - camera.y * camera.zoom) - y;
    if (this.clear) context.clearRect(x, y, width, height);
    context.drawImage(bitmap, x, y, width, height);
  }

  /** Fetch what is wanted and not here; give up what is not wanted any more. */
  load(wanted) {
    const keys = new Set(wanted);
    for (const [key, controller] of this.fetches) if (!keys.has(key)) controller.abort();
    for (const key of wanted) {
      if (this.fetches.size >= MOST_FETCHES) break;
      if (!this.tiles.has(key) && !this.fetches.has(key) && !this.missing.has(key)) this.fetch(key);
    }
    this.settled = wanted.every((key) => this.tiles.has(key) || this.missing.has(key));
    for (const [key, bitmap] of this.tiles) {
      if (this.tiles.size <= MOST_TILES) break;
      if (keys.has(key)) continue;
      bitmap.close();
      this.tiles.delete(key);
    }
  }

  async fetch(key) {
    const controller = new AbortController();
    this.fetches.set(key, controller);
    try {
      const bitmap = await tile(this.id, this.side, ...key.split("/"), controller.signal);
      if (this.closed) bitmap.close();
      else this.tiles.set(key, bitmap);
    } catch (error) {
      if (error.name !== "AbortError") this.missing.add(key);
    }
    this.fetches.delete(key);
    if (!this.closed) this.onTile();
  }
}
