// The occlusion map of one photo, drawn while it is computed: warm where hiding lowers the value, cold where it raises it.

import { address, photoAt } from "./server.js";
import { short } from "./maps.js";

const WARM = [217, 72, 15];
const COLD = [24, 100, 171];

export class Sweep {
  constructor(canvas, { size, told, failed }) {
    Object.assign(this, { canvas, size, told, failed, values: [], plan: null });
    [canvas.height, canvas.width] = size.map((length) => length * Math.max(1, Math.round(448 / length)));
  }

  get runs() { return Boolean(this.source); }

  start(photo, question) {
    this.stop();
    this.clear();
    this.photo = photo;
    const source = this.source = new EventSource(address(photoAt(photo, "sweep"), question));
    const on = (name, act) => source.addEventListener(name, (event) => act(JSON.parse(event.data)));
    on("plan", (plan) => {
      this.plan = plan;
      this.tell(null);
    });
    on("piece", ({ first, values, left }) => {
      values.forEach((value, n) => { this.values[first + n] = value; });
      this.draw();
      this.tell(left);
    });
    on("done", () => this.stop());
    on("problem", ({ problem }) => {
      this.stop();
      this.failed(new Error(problem));
    });
    source.addEventListener("error", () => { // refused, or the server has gone; what is drawn stays
      if (this.source !== source) return;
      this.stop();
      this.failed(new Error("the sweep was broken off by the server"));
    });
    this.tell(null);
  }

  stop() {
    this.source?.close();
    this.source = null;
    this.tell(null);
  }

  clear() {
    this.values = [];
    this.plan = null;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.tell(null);
  }

  tell(left) { this.told({ plan: this.plan, done: this.values.length, left, runs: this.runs }); }

  get range() {
    return Math.max(1e-12, ...this.values.map((value) => Math.abs(this.plan.clean - value)));
  }

  draw() {
    const { columns, stride, window: side, clean } = this.plan;
    const context = this.canvas.getContext("2d");
    const scale = this.canvas.width / this.size[1];
    const range = this.range;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.values.forEach((value, n) => {
      const drop = (clean - value) / range;
      const [top, left] = [Math.floor(n / columns), n % columns].map((step) => step * stride + (side - stride) / 2);
      context.fillStyle = `rgb(${(drop > 0 ? WARM : COLD).join(" ")} / ${Math.min(1, Math.abs(drop)) * 0.85})`;
      context.fillRect(Math.round(left * scale), Math.round(top * scale), Math.ceil(stride * scale), Math.ceil(stride * scale));
    });
  }

  // The place of the square nearest to a pixel of the photo, and its value; null where there is none yet.
  at(row, column) {
    if (!this.plan) return null;
    const { rows, columns, stride, window: side } = this.plan;
    const near = (at, count) => Math.min(Math.max(0, Math.round((at - side / 2) / stride)), count - 1);
    const [r, c] = [near(row, rows), near(column, columns)];
    const value = this.values[r * columns + c];
    return value === undefined ? null : { top: r * stride, left: c * stride, side, value };
  }

  get numbers() {
    return JSON.stringify({ photo: this.photo, ...this.plan, values: this.values, order: "row by row" });
  }

  get words() {
    if (!this.plan) return "";
    const { name, map, clean } = this.plan;
    const what = map === undefined ? name : `sum of map ${map}`;
    const change = map === undefined ? `${short(100 * this.range)} points` : short(this.range);
    return `${what}: ${map === undefined ? `${short(100 * clean)} %` : short(clean)}`
      + (this.values.length ? `; full colour: ${change}` : "");
  }
}
