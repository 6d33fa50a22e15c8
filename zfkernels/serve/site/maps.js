// The maps of one layer on the photos that are shown, as thumbnails in some order.

import { Lane, photoAt } from "./server.js";

const FIRST = 120;
const ORDER = {
  strongest: (a, b) => (b[1] ?? -Infinity) - (a[1] ?? -Infinity),
  mean: (a, b) => (b[4] ?? -Infinity) - (a[4] ?? -Infinity),
  map: () => 0,
};

export const short = (value) => (value === null ? "no number" : Number(value.toPrecision(3)).toString());

export class Maps {
  constructor(grid, more, choose) {
    this.grid = grid;
    this.more = more;
    this.rows = [];
    this.sheets = [];
    this.limit = FIRST;
    this.lanes = ["a", "b"].map((name) => ({ rows: new Lane(`maps-${name}`), sheet: new Lane(`sheet-${name}`) }));
    grid.addEventListener("click", (event) => {
      const card = event.target.closest("button");
      if (card) choose(Number(card.dataset.map));
    });
    more.addEventListener("click", () => {
      this.limit = Infinity;
      this.draw();
    });
  }

  // Fetches the maps of a layer on one photo or two; false where something newer was asked for meanwhile.
  async load(layer, photos) {
    const found = await Promise.all(photos.map(async (photo, n) => Promise.all([
      n ? null : this.lanes[n].rows.ask(photoAt(photo, "maps"), { layer }),
      this.lanes[n].sheet.ask(photoAt(photo, "maps.png"), { layer }, async (answer) => ({
        url: URL.createObjectURL(await answer.blob()), grid: answer.headers.get("x-tile").split(" ").map(Number),
      })),
    ])));
    if (found.some(([rows, sheet], n) => (!n && !rows) || !sheet)) return false;
    for (const { url } of this.sheets) URL.revokeObjectURL(url);
    this.rows = found[0][0].maps;
    this.sheets = found.map(([, sheet]) => sheet);
    this.limit = FIRST;
    return true;
  }

  get strongest() {
    return this.rows.reduce((best, row) => ((row[1] ?? -Infinity) > (best[1] ?? -Infinity) ? row : best), this.rows[0]);
  }

  draw(sort = this.sort, chosen = this.chosen) {
    Object.assign(this, { sort, chosen });
    const order = [...this.rows].sort((a, b) => ORDER[sort](a, b) || a[0] - b[0]);
    const top = this.strongest?.[1] || 1;
    const rows = order.slice(0, this.limit);
    this.grid.replaceChildren(...rows.map((row) => this.card(row, top)));
    this.more.hidden = rows.length === order.length;
    this.more.textContent = `All ${order.length} maps`;
    this.mark(chosen);
  }

  card([channel, value, row, column], top) {
    const bar = element("span", { className: "bar" });
    bar.style.setProperty("--part", Math.max(0, Math.min(1, (value ?? 0) / top)));
    const card = element("button", { type: "button", className: "card-map" }, [
      element("span", { className: "thumbs" }, this.sheets.map((sheet) => thumbnail(sheet, channel, this.rows.length))),
      bar,
      element("span", { className: "caption" }, [
        element("b", { textContent: channel }), element("span", { textContent: short(value) }),
      ]),
    ]);
    card.dataset.map = channel;
    card.setAttribute("aria-label", `map ${channel}, strongest ${short(value)} at row ${row}, column ${column}`);
    return card;
  }

  mark(chosen) {
    this.chosen = chosen;
    const cards = [...this.grid.children];
    const current = cards.find((card) => Number(card.dataset.map) === chosen);
    for (const card of cards) {
      card.tabIndex = card === (current ?? cards[0]) ? 0 : -1;
      card.setAttribute("aria-pressed", card === current);
    }
  }

  moveFocus(key) {
    const cards = [...this.grid.children];
    const here = cards.indexOf(document.activeElement);
    const columns = getComputedStyle(this.grid).gridTemplateColumns.split(" ").length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    const next = here < 0 ? cards.find((card) => card.tabIndex === 0) : cards[here + step];
    if (!next) return;
    for (const card of cards) card.tabIndex = card === next ? 0 : -1;
    next.focus();
  }
}

// One tile of a sheet, whatever the width in which it is shown.
function thumbnail({ url, grid: [height, width, side] }, channel, count) {
  const node = element("span", { className: "thumb" });
  const rows = Math.ceil(count / side);
  const share = (n, of) => (of > 1 ? (100 * n) / (of - 1) : 0);
  node.style.backgroundImage = `url("${url}")`;
  node.style.backgroundSize = `${100 * side}% ${100 * rows}%`;
  node.style.backgroundPosition = `${share(channel % side, side)}% ${share(Math.floor(channel / side), rows)}%`;
  node.style.aspectRatio = `${width} / ${height}`;
  return node;
}
