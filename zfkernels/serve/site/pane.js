// One photo: with the square and the frame of what a unit sees, the chosen map, its projection, the occlusion map, the
// classes.

import { Lane, address, photoAt } from "./server.js";
import { short } from "./maps.js";
import { Square } from "./square.js";
import { Sweep } from "./sweep.js";

const percent = (share) => (share === null ? "no number" : `${(100 * share).toPrecision(share >= 0.0995 ? 3 : 2)} %`);

export class Pane {
  // `record` is what the address knows of it: photo, at, square. `page` has: network, state, changed(), say(), close().
  constructor(index, record, page) {
    Object.assign(this, { index, record, page, unit: null, best: null });
    this.lane = new Lane(`unit-${index}`);
    this.answersLane = new Lane(`answers-${index}`);
    this.build();
  }

  get question() { return { photo: this.record.photo, layer: this.page.state.layer, map: this.page.state.map }; }

  build() {
    const size = this.page.network.size;
    const picture = (name, extra = {}) => element("img", { alt: "", draggable: false, className: name, ...extra });
    const frame = () => element("span", { className: "frame", hidden: true });
    const figure = (view, title) => {
      view.style.aspectRatio = `${size[1]} / ${size[0]}`;
      const caption = element("figcaption", {}, [element("b", { textContent: title }), element("span")]);
      return element("figure", {}, [view, caption]);
    };
    this.photo = picture("");
    this.photoView = element("div", { className: "view photo", tabIndex: 0, role: "application" },
      [this.photo, this.frame = frame()]);
    this.photoView.setAttribute("aria-label", "The photo. Press and hold, or use the arrow keys, to hide a part of it");
    this.mapView = element("div", { className: "view map", tabIndex: 0, role: "application" },
      [this.map = picture("cells"), this.spot = element("span", { className: "spot", hidden: true })]);
    this.mapView.setAttribute("aria-label", "The map. Press on a place, or use the arrow keys, to project it");
    this.projection = picture("");
    this.projectionView = element("div", { className: "view" }, [this.projection, this.frame2 = frame()]);
    this.canvas = element("canvas", { role: "img" });
    this.canvas.setAttribute("aria-label", "Occlusion map over the photo");
    this.sweepView = element("div", { className: "view swept" }, [this.grey = picture("grey"), this.canvas]);
    const figures = [figure(this.photoView, "Photo"), figure(this.projectionView, "Projection"),
      figure(this.mapView, "Map"), figure(this.sweepView, "Occlusion")];
    [this.photoNote, this.projectionNote, this.mapNote, this.sweepNote] = figures.map((one) => one.querySelector("figcaption span"));
    this.title = element("h2");
    this.note = element("p", { className: "note" });
    const close = element("button", { type: "button", textContent: "✕", ariaLabel: "Put this photo away" });
    close.addEventListener("click", () => this.page.close(this.index));
    this.answers = element("ol", { className: "answers" });
    this.facts = element("dl", { className: "unit" });
    this.files = element("p", { className: "files" });
    this.node = element("article", { className: "pane" }, [
      element("header", {}, [element("div", {}, [this.title, this.note]), close]),
      element("div", { className: "figures" }, figures),
      element("div", { className: "readings" }, [
        this.part("What it says", [this.answers]), this.part("The unit", [this.facts, this.files]),
        this.part("Sweep", this.sweepControls()),
      ]),
    ]);
    this.node.dataset.pane = this.index;
    this.square = new Square(this.photoView, this.index, {
      size, fill: this.page.network.fill, failed: this.page.say,
      changed: (place) => this.squareMoved(place), answered: (answer) => this.showAnswers(answer),
    });
    this.square.about = () => this.question;
    this.side.max = Math.round(Math.min(...size) * 0.75);
    this.side.value = this.square.side;
    this.sweep = new Sweep(this.canvas, { size, told: (news) => this.sweepTold(news), failed: this.page.say });
    this.mapView.addEventListener("pointerdown", (event) => this.pressMap(event));
    this.mapView.addEventListener("keydown", (event) => this.mapKey(event));
    this.sweepView.addEventListener("pointermove", (event) => this.readSweep(event));
    this.sweepView.addEventListener("pointerdown", (event) => this.readSweep(event, true));
    this.sweepView.addEventListener("pointerleave", () => this.tellSweep());
  }

  part(title, content) {
    return element("section", {}, [element("h3", { textContent: title }), ...content]);
  }

  sweepControls() {
    this.of = element("select", { ariaLabel: "What the sweep watches" });
    this.side = element("input", { type: "range", min: 2, ariaLabel: "Side of the square in pixels" });
    this.sideText = element("output");
    this.step = element("select", { ariaLabel: "Step of the square" }, [
      element("option", { value: "14", textContent: "coarse" }), element("option", { value: "28", textContent: "fine", selected: true }),
      element("option", { value: "56", textContent: "finest" }),
    ]);
    this.go = element("button", { type: "button", className: "go", textContent: "Sweep" });
    this.progress = element("progress", { max: 1, value: 0, hidden: true, ariaLabel: "Sweep" });
    this.progressText = element("p", { className: "note", role: "status" });
    this.sweepFiles = element("p", { className: "files bare" });
    this.go.addEventListener("click", () => this.toggleSweep());
    this.side.addEventListener("input", () => this.square.resize(Number(this.side.value)));
    const row = (text, nodes) => element("label", {}, [element("span", { textContent: text }), ...nodes]);
    return [row("of", [this.of]), row("square", [this.side, this.sideText]), row("steps", [this.step]), this.go,
      this.progress, this.progressText, this.sweepFiles];
  }

  // ---- the photo

  async open(record) {
    if (!this.opened || record.photo !== this.record.photo) {
      const answer = await this.answersLane.ask(photoAt(record.photo, "answers"));
      if (!answer) return;
      this.opened = true;
      this.record = record;
      this.best = answer.best;
      this.sweep.stop();
      this.sweep.clear();
      this.title.textContent = answer.name;
      this.title.title = answer.name;
      this.note.textContent = [answer.label, answer.note].filter(Boolean).join(" · ");
      this.photo.src = this.grey.src = photoAt(record.photo, "image.png");
      this.photo.alt = answer.name;
      this.showAnswers(null);
      this.listTargets();
    }
    this.record = record;
    this.square.place = null;
    this.square.put(record.square);
    this.square.show();
  }

  squareMoved(place) {
    this.record.square = place;
    this.side.value = this.square?.side ?? this.side.value;
    this.sideText.textContent = `${this.square?.side ?? this.side.value} px`;
    this.photoNote.textContent = place ? "Esc takes the square away" : "press and hold to hide a part";
    this.page.changed();
  }

  showAnswers(probe) {
    if (!this.best) {
      this.answers.replaceChildren(element("li", { className: "note", textContent: "no classes: its output is something else" }));
    } else {
      const usual = probe?.usual ?? this.best;
      const rows = this.best.map((entry, n) => answerRow(entry.name, entry.probability, usual[n].probability, Boolean(probe)));
      const now = probe?.best[0];
      if (now && !this.best.some((entry) => entry.class === now.class)) rows.push(answerRow(now.name, null, now.probability, true));
      this.answers.replaceChildren(...rows);
      this.answers.classList.toggle("probed", Boolean(probe));
    }
    this.probed = probe?.map ?? null;
    this.showFacts();
  }

  // ---- the unit

  async showUnit() {
    const { photo, layer, map } = this.question;
    if (map === null) return;
    const [row, column] = this.record.at ?? [null, null];
    const found = await this.lane.ask(photoAt(photo, "unit.png"), { layer, map, row, column }, async (answer) => ({
      facts: JSON.parse(answer.headers.get("x-facts")), url: URL.createObjectURL(await answer.blob()),
    }));
    if (!found) return;
    if (this.projection.src) URL.revokeObjectURL(this.projection.src);
    this.unit = found.facts;
    this.projection.src = found.url;
    this.projection.alt = `projection of map ${map} of ${layer}`;
    const source = address(photoAt(photo, "map.png"), { layer, map });
    if (this.map.getAttribute("src") !== source) this.map.src = source;
    this.placeFrames();
    this.showFacts();
    this.listTargets();
    this.square.refresh();
  }

  get cells() {
    const info = this.page.network.layers.find(([name]) => name === this.page.state.layer);
    return info?.[3] ?? [1, 1];
  }

  placeFrames() {
    const [height, width] = this.page.network.size;
    const [top, left, bottom, right] = this.unit.field;
    for (const node of [this.frame, this.frame2]) {
      node.hidden = false;
      put(node, top / height, left / width, (bottom - top) / height, (right - left) / width);
    }
    const [rows, columns] = this.cells;
    this.mapView.style.aspectRatio = `${columns} / ${rows}`;
    this.spot.hidden = rows * columns === 1;
    put(this.spot, this.unit.row / rows, this.unit.column / columns, 1 / rows, 1 / columns);
    this.mapNote.textContent = rows * columns === 1 ? "one unit" : `${rows}×${columns}: press on a place`;
    this.projectionNote.textContent = this.record.at ? "of the place in the map" : "of the strongest place";
  }

  showFacts() {
    if (!this.unit) return;
    const { layer, map, row, column, activation, field: [top, left, bottom, right] } = this.unit;
    const facts = [["map", `${layer} · ${map}`], ["value", short(activation)], ["place", `row ${row}, column ${column}`],
      ["sees", `${bottom - top}×${right - left} px at ${top}, ${left}`]];
    if (this.probed) facts.push(["hidden", `at its strongest place ${short(this.probed.before)} → ${short(this.probed.there)}`]);
    this.facts.replaceChildren(...facts.flatMap(([term, text]) => [
      element("dt", { textContent: term }), element("dd", { textContent: text })]));
    const { photo } = this.record;
    const place = this.record.at ? { row, column } : {};
    const file = (what, name, text) => element("a", { href: address(photoAt(photo, what), { layer, map, ...place }), download: name, textContent: text });
    const stem = `${layer}-${map}-${row}-${column}`;
    this.files.replaceChildren("projection", file("unit.png", `${stem}.png`, "picture"), file("unit.npy", `${stem}.npy`, "numbers"),
      element("br"), "map", file("map.png", `${layer}-${map}.png`, "picture"), file("map.npy", `${layer}-${map}.npy`, "numbers"));
  }

  pressMap(event) {
    const box = this.mapView.getBoundingClientRect();
    const [rows, columns] = this.cells;
    const inside = (at, count) => Math.min(Math.max(0, Math.floor(at * count)), count - 1);
    this.goTo([inside((event.clientY - box.top) / box.height, rows), inside((event.clientX - box.left) / box.width, columns)]);
  }

  mapKey(event) {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if ((!move && event.key !== "Home") || !this.unit) return;
    event.preventDefault();
    event.stopPropagation();
    if (!move) this.goTo(null);
    else {
      const from = this.record.at ?? [this.unit.row, this.unit.column];
      this.goTo(from.map((at, axis) => Math.min(Math.max(0, at + move[axis]), this.cells[axis] - 1)));
    }
  }

  goTo(place) {
    this.record.at = place;
    this.page.changed();
    this.showUnit().catch(this.page.say);
  }

  // ---- the sweep

  listTargets() {
    const chosen = this.of.value;
    const options = (this.best ?? []).map((entry) => element("option", { value: `class ${entry.class}`, textContent: entry.name }));
    if (this.page.state.map !== null) options.push(element("option", { value: "map", textContent: `map ${this.page.state.map} (its sum)` }));
    this.of.replaceChildren(...options);
    if (options.some((option) => option.value === chosen)) this.of.value = chosen;
  }

  toggleSweep() {
    if (this.sweep.runs) {
      this.sweep.stop();
      return;
    }
    const { photo, layer, map } = this.question;
    const { side } = this.square;
    const least = Math.max(...this.page.network.size.map((length) => Math.ceil((length - side) / 62)));
    const stride = Math.max(1, least, Math.round(this.page.network.size[1] / Number(this.step.value)));
    const of = this.of.value === "map" ? { layer, map } : { target: this.of.value.slice(6) };
    this.sweep.start(photo, { window: side, stride, ...of });
  }

  sweepTold({ plan, done, left, runs }) {
    this.go.textContent = runs ? "Stop" : "Sweep";
    this.progress.hidden = !runs;
    this.progress.value = plan ? done / plan.total : 0;
    this.sweepView.classList.toggle("empty", !done);
    this.progressText.textContent = !runs ? "" : left === null ? "planning" : `${Math.ceil(left)} s left`;
    this.tellSweep();
    for (const link of this.sweepFiles.children) URL.revokeObjectURL(link.href);
    this.sweepFiles.replaceChildren();
    if (runs || !done) return;
    const numbers = new Blob([this.sweep.numbers], { type: "application/json" });
    this.canvas.toBlob((picture) => {
      if (this.sweep.runs) return; // another one has begun meanwhile
      const file = (blob, name, text) => element("a", { href: URL.createObjectURL(blob), download: name, textContent: text });
      this.sweepFiles.replaceChildren(file(picture, "occlusion.png", "picture"), file(numbers, "occlusion.json", "numbers"));
    });
  }

  tellSweep() { this.sweepNote.textContent = this.sweep?.words || "sweep to fill this"; }

  readSweep(event, hold = false) {
    const box = this.sweepView.getBoundingClientRect();
    const [height, width] = this.page.network.size;
    const found = this.sweep.at(((event.clientY - box.top) / box.height) * height, ((event.clientX - box.left) / box.width) * width);
    if (!found) return;
    this.sweepNote.textContent = `${short(found.value)} with the square at row ${found.top}, column ${found.left}`;
    if (hold) this.square.put([found.top, found.left, found.side]);
  }

  // Puts everything back that outlives the page's interest in it.
  remove() {
    this.sweep.stop();
    this.lane.stop();
    this.node.remove();
  }
}

function put(node, top, left, height, width) {
  const share = (part) => `${100 * part}%`;
  Object.assign(node.style, { top: share(top), left: share(left), height: share(height), width: share(width) });
}

function answerRow(name, before, now, probed) {
  const row = element("li", {}, [
    element("span", { className: "name", textContent: name, title: name }),
    element("span", { className: "share", textContent: percent(now) }),
    element("span", { className: "bars" }, [element("i", { className: "before" }), element("i", { className: "now" })]),
  ]);
  row.style.setProperty("--before", before ?? 0);
  row.style.setProperty("--now", now ?? 0);
  row.setAttribute("aria-label", probed && before !== null ? `${name}: ${percent(before)}, now ${percent(now)}` : `${name}: ${percent(now)}`);
  return row;
}
