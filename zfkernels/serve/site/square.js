// The square that hides a part of the photo: dragged, or moved by keys; the newest place is asked for, one at a time.

import { Lane, photoAt } from "./server.js";

export class Square {
  // `changed` is told each new place, or null; `answered` each answer, or null where there is no square.
  constructor(view, pane, { size, fill, changed, answered, failed }) {
    Object.assign(this, { view, pane, size, changed, answered, failed, side: Math.max(1, Math.round(size[1] / 8)) });
    this.lane = new Lane(`probe-${pane}`);
    this.place = null;
    this.node = element("span", { className: "square", hidden: true });
    this.node.style.backgroundColor = `rgb(${fill.join(" ")})`;
    view.append(this.node);
    view.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      view.setPointerCapture(event.pointerId);
      this.under(event);
      view.focus({ preventScroll: true });
      event.preventDefault();
    });
    view.addEventListener("pointermove", (event) => { if (view.hasPointerCapture(event.pointerId)) this.under(event); });
    view.addEventListener("keydown", (event) => this.key(event));
  }

  under(event) {
    const box = this.view.getBoundingClientRect();
    const scale = this.size[1] / box.width;
    this.put([
      Math.round((event.clientY - box.top) * scale - this.side / 2),
      Math.round((event.clientX - box.left) * scale - this.side / 2), this.side,
    ]);
  }

  key(event) {
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(this.side / 4));
    const [top, left] = this.place ?? this.size.map((length) => Math.round((length - this.side) / 2));
    const move = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] }[event.key];
    if (move) this.put(this.place ? [top + move[0], left + move[1], this.side] : [top, left, this.side]);
    else if (event.key === "+" || event.key === "=") this.resize(this.side + step);
    else if (event.key === "-") this.resize(this.side - step);
    else if (event.key === "Escape" && this.place) this.put(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  resize(side) {
    const now = Math.min(Math.max(1, side), Math.min(...this.size));
    const middle = this.place?.slice(0, 2).map((start) => start + this.side / 2);
    this.side = now;
    if (middle) this.put([...middle.map((at) => Math.round(at - now / 2)), now]);
    else this.changed(null);
  }

  put(place) {
    if (place) {
      const inside = (start, length) => Math.min(Math.max(start, 1 - place[2]), length - 1);
      place = [inside(place[0], this.size[0]), inside(place[1], this.size[1]), place[2]];
      this.side = place[2];
    }
    if (place && String(place) === String(this.place)) return;
    this.place = place;
    this.show();
    this.changed(place);
    this.refresh();
  }

  show() {
    this.node.hidden = !this.place;
    if (!this.place) return;
    const [top, left, side] = this.place;
    const part = (start, axis) => Math.max(0, start) / this.size[axis] * 100;
    const end = (start, axis) => Math.min(this.size[axis], start + side) / this.size[axis] * 100;
    this.node.style.cssText += `;top:${part(top, 0)}%;left:${part(left, 1)}%;`
      + `height:${end(top, 0) - part(top, 0)}%;width:${end(left, 1) - part(left, 1)}%`;
  }

  // What the network says with the square where it is now; while an answer is on its way, only the newest place waits.
  async refresh() {
    if (!this.place) {
      this.lane.stop();
      this.answered(null);
      return;
    }
    this.wanted = true;
    if (this.asking) return;
    this.asking = true;
    try {
      while (this.wanted && this.place) {
        this.wanted = false;
        const [top, left, side] = this.place;
        const { photo, layer, map } = this.about();
        const answer = await this.lane.ask(photoAt(photo, "probe"), { top, left, side, layer, map });
        if (answer && this.place) this.answered(answer);
      }
    } catch (error) {
      this.failed(error);
    } finally {
      this.asking = false;
    }
  }
}
