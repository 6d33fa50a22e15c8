// The page: one layer at a time, its maps in some order, filtered by a search; and one activation in the large view.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const loaded = new Map(); // layer → what its script says
const waiting = new Map(); // layer → who waits for it
const FIRST = data.selective ? "selectivity" : "strength"; // the order whose first maps are most worth a look
const state = { layer: 0, sort: FIRST, q: "", map: null, rank: 0 };
const SORTS = ["channel", "strength", "purity", "sparsity", "selectivity"];
let order = []; // places of the shown maps in the layer's list
const PROJECTIONS = data.blocks.indexOf("projections");
const PATCHES = data.blocks.indexOf("patches");
const ACTIVATIONS = data.blocks.indexOf("activations");
const OCCLUSIONS = data.blocks.indexOf("occlusions");
const CHANNELS = data.blocks.indexOf("channels");

// ---- data

// The scripts of the layers call this.
function showLayer(index, content) {
  loaded.set(index, content);
  for (const resolve of waiting.get(index) ?? []) resolve(content);
  waiting.delete(index);
}

function folderOf(layer) {
  return `maps/${String(layer).padStart(3, "0")}`;
}

function load(layer) {
  if (loaded.has(layer)) return Promise.resolve(loaded.get(layer));
  return new Promise((resolve) => {
    if (waiting.has(layer)) return waiting.get(layer).push(resolve);
    waiting.set(layer, [resolve]);
    const script = element("script", { src: `${folderOf(layer)}/layer.js` });
    script.addEventListener("error", () => {
      at("count").textContent = `${data.layers[layer].name}: ${folderOf(layer)}/layer.js is missing`;
    });
    document.head.append(script);
  });
}

function sprite(layer, channel) {
  return `${folderOf(layer)}/${String(channel).padStart(5, "0")}.webp`;
}

// Maps in which every word of the search is a channel, or stands in a label or the name of an image; places in the list.
function matches(content, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const images = content.images.map(([, key, label]) => `${label ?? ""}\n${key}`.toLowerCase());
  const found = [];
  content.maps.forEach(([channel, , , units], place) => {
    const fits = (word) => (/^\d+$/.test(word) && Number(word) === channel)
      || (!/^\d+$/.test(word) && units.some(([image]) => images[image].includes(word)));
    if (words.every(fits)) found.push(place);
  });
  return found;
}

function sorted(content, places) {
  const most = Math.max(...content.maps.map(([, , , units]) => units.length));
  const rank = {
    channel: ([channel]) => channel,
    strength: ([, , , units]) => -Number(units[0][1]),
    purity: ([, , purity]) => -(purity ?? -1),
    sparsity: ([, fired]) => fired,
    // A map that fired on few images is easily selective: those with fewer winners than others come last.
    selectivity: ([, , , units, [, , selectivity]]) => -(selectivity ?? -1) + (units.length < most ? 2 : 0),
  }[state.sort];
  const strength = (place) => -Number(content.maps[place][3][0][1]);
  const tie = state.sort === "channel" ? () => 0 : (a, b) => strength(a) - strength(b);
  return places.sort((a, b) => rank(content.maps[a]) - rank(content.maps[b]) || tie(a, b) || a - b);
}

// ---- the address: #layer=NAME&map=3&rank=0&sort=purity&q=dog

function toAddress() {
  const parts = new URLSearchParams({ layer: data.layers[state.layer].name });
  if (state.sort !== FIRST) parts.set("sort", state.sort);
  if (state.q) parts.set("q", state.q);
  if (state.map !== null) {
    parts.set("map", state.map);
    if (state.rank) parts.set("rank", state.rank);
  }
  const address = `#${parts}`;
  if (address !== location.hash) history.replaceState(null, "", address);
}

function fromAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const layer = data.layers.findIndex(({ name }) => name === parts.get("layer"));
  state.layer = Math.max(0, layer);
  state.sort = SORTS.includes(parts.get("sort")) ? parts.get("sort") : FIRST;
  state.q = parts.get("q") ?? "";
  state.map = /^\d+$/.test(parts.get("map") ?? "") ? Number(parts.get("map")) : null;
  state.rank = /^\d+$/.test(parts.get("rank") ?? "") ? Number(parts.get("rank")) : 0;
  at("sort").value = state.sort;
  at("query").value = state.q;
}

// ---- the maps

function describe(layer, [channel, fired, purity, units], images) {
  const label = images[units[0][0]][2] ?? images[units[0][0]][1];
  return `${layer.name}, map ${channel}: strongest ${units[0][1]}, ${label}; fired in ${percent(fired)} of the images`
    + (purity === null ? "" : `; purity ${percent(purity)}`);
}

function percent(share) {
  return `${(100 * share).toPrecision(share >= 0.995 ? 3 : 2)} %`;
}

// The cards of the layer that is shown, by place; a search or another order only arranges them anew.
const cards = { layer: null, made: new Map() };

function card(layer, content, place, number) {
  if (cards.layer !== layer) Object.assign(cards, { layer, made: new Map() });
  if (!cards.made.has(place)) cards.made.set(place, makeCard(layer, content, place));
  const node = cards.made.get(place);
  const [, fired, purity, units, [, label, selectivity]] = content.maps[place];
  node.querySelector(".note").textContent = state.sort === "purity" && purity !== null
    ? `purity ${percent(purity)}` : state.sort === "strength" ? units[0][1]
      : state.sort === "selectivity" && selectivity !== null ? `${label} ${selectivity}` : `fired ${percent(fired)}`;
  node.firstChild.tabIndex = number ? -1 : 0;
  return node;
}

function makeCard(layer, content, place) {
  const map = content.maps[place];
  const [channel, , , , [bars]] = map;
  const [width, height] = layer.sprite;
  const image = element("img", { loading: "lazy", decoding: "async", alt: "", width, height });
  image.src = sprite(state.layer, channel);
  const button = element("button", { type: "button" }, [
    element("span", { className: "sprite" }, [image]),
    element("span", { className: "caption", ariaHidden: "true" }, [
      element("b", { textContent: channel }), histogram(bars), element("span", { className: "note" }),
    ]),
  ]);
  button.setAttribute("aria-label", describe(layer, map, content.images));
  button.dataset.place = place;
  return element("div", { className: "card", role: "listitem", id: `map-${channel}` }, [button]);
}

// Small bars: how many of the images have a maximum of this size, from the smallest to the largest of the layer.
function histogram(bars) {
  const most = Math.max(...bars, 1e-9);
  return element("span", { className: "histogram" }, bars.map((bar) => {
    const node = element("i");
    node.style.height = `${Math.ceil((100 * bar) / most)}%`;
    return node;
  }));
}

async function show({ focus = false } = {}) {
  const index = state.layer;
  const layer = data.layers[index];
  at("name").textContent = layer.name;
  at("about").textContent = layer.facts;
  for (const [n, link] of [...at("layers").children].entries()) {
    if (n === index) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showLink();
  if (filters.layer !== index) {
    at("filters").replaceChildren();
    filters.layer = null; // whoever comes back while a layer loads finds them again
  }
  const content = await load(index);
  if (index !== state.layer) return; // another layer was asked for meanwhile
  order = sorted(content, matches(content, state.q));
  if (filters.layer !== index) showFilters(index, content);
  const grid = at("maps");
  grid.style.setProperty("--map", `${layer.width}px`);
  grid.style.setProperty("--aspect", `${layer.width} / ${Math.round((layer.sprite[1] * layer.width) / visible(layer))}`);
  grid.style.setProperty("--wide", `${(100 * layer.sprite[0]) / visible(layer)}%`);
  grid.replaceChildren(...order.map((place, number) => card(layer, content, place, number)));
  at("count").textContent = state.q ? `${order.length} of ${content.maps.length} maps match “${state.q}”` : "";
  if (state.q && !order.length) at("count").append(" ", wayBack());
  const missing = (maps, what) => (maps.length
    ? [`${maps.length} ${maps.length === 1 ? "map" : "maps"} ${what} on these images: `
      + maps.slice(0, 400).join(", ") + (maps.length > 400 ? " …" : "")] : []);
  at("dead").textContent = [
    ...missing(layer.dead, "dead, never above zero"), ...missing(layer.onlyNan, "without values, NaN everywhere"),
  ].join("; ");
  toAddress();
  countMatches();
  if (state.map !== null) openMap(content);
  else if (focus) grid.querySelector("button")?.focus();
}

// Of a first layer, whose projections are its filters: each once, the strongest of those that the border cuts least. By
// keyboard the same maps are reached through their cards.
const filters = { layer: null, opener: null };

function showFilters(index, content) {
  filters.layer = index;
  const layer = data.layers[index];
  if (!layer.filters || PROJECTIONS < 0) return;
  const tiles = content.maps.flatMap(([channel, , , units]) => {
    const seen = units.map(([, value, , , top, left, bottom, right]) => (value > 0) * (bottom - top) * (right - left));
    const most = Math.max(...seen);
    return most > 0 ? [filterTile(index, content, channel, seen.indexOf(most))] : [];
  });
  if (!tiles.length) return;
  at("filters").replaceChildren(element("div", { className: "sheet" }, tiles), element("p", {
    textContent: "The filters, by number. A projection of this layer is the map’s filter, times the activation." }));
}

function filterTile(index, content, channel, rank) {
  const picture = tilePicture(data.layers[index], sprite(index, channel), PROJECTIONS, rank, 44, "");
  const button = element("button", { type: "button", title: `map ${channel}`, tabIndex: -1 }, [picture]);
  button.setAttribute("aria-label", `filter of map ${channel}`);
  button.addEventListener("click", () => {
    Object.assign(state, { map: channel, rank });
    filters.opener = button;
    openMap(content);
  });
  return button;
}

// What a search that finds nothing offers: all maps of the layer again.
function wayBack() {
  const button = element("button", { type: "button", textContent: "Show all maps" });
  button.addEventListener("click", () => {
    state.q = at("query").value = "";
    show({ focus: true });
  });
  return button;
}

// Brings the link of the layer that is shown into view: beside its neighbours where there are many.
function showLink() {
  const [bar, link] = [at("layers"), at("layers").children[state.layer]];
  bar.scrollLeft = link.offsetLeft - bar.offsetLeft - (bar.clientWidth - link.offsetWidth) / 2;
}

// Pixels of a sprite that a card shows: two blocks; what is left is for the large view.
function visible(layer) {
  const shown = Math.min(2, data.blocks.length);
  const [left, , width] = tileBox(layer, shown - 1, layer.side - 1);
  return left + width;
}

// How many maps of each layer match the search, beside the layers' names.
async function countMatches() {
  const query = state.q;
  for (const [index, link] of [...at("layers").children].entries()) {
    const badge = link.querySelector("span");
    if (!query) badge.textContent = "";
    else {
      const content = await load(index);
      if (query !== state.q) return;
      badge.textContent = matches(content, query).length;
    }
  }
  showLink();
}

// ---- one activation

function openMap(content) {
  const map = content.maps.find(([channel]) => channel === state.map);
  if (!map) {
    state.map = null;
    return;
  }
  const layer = data.layers[state.layer];
  const [channel, fired, purity, units, [bars, most, selectivity], alike] = map;
  state.rank = Math.min(Math.max(state.rank, 0), units.length - 1);
  const [image, value, row, column, top, left, bottom, right] = units[state.rank];
  const [source, key, label] = content.images[image];
  const picture = sprite(state.layer, channel);
  const wide = panelWidth(1 + [PATCHES, PROJECTIONS, OCCLUSIONS, CHANNELS, ACTIVATIONS].filter((n) => n >= 0).length);
  const panel = (title, node) => {
    const figure = element("figure", {}, [node, element("figcaption", { textContent: title })]);
    figure.style.width = `${wide}px`;
    return figure;
  };
  const tile = (block, title) => panel(title, tilePicture(layer, picture, block, state.rank, wide, title));
  const panels = [panel("image; framed: what the activation depends on",
    framedPicture(data.imageSize, source, [top, left, bottom, right], wide, label ?? key))];
  if (PATCHES >= 0) panels.push(tile(PATCHES, patchCaption(layer, channel, bottom - top, right - left)));
  if (PROJECTIONS >= 0) panels.push(tile(PROJECTIONS, "projection"));
  if (OCCLUSIONS >= 0) panels.push(tile(OCCLUSIONS, "bright: hiding this place lowers the activation"));
  if (CHANNELS >= 0) panels.push(tile(CHANNELS, "projection of each channel, from the first on, row by row"));
  if (ACTIVATIONS >= 0) panels.push(tile(ACTIVATIONS, `the map's activations on this image, ${layer.size.join("×")}`));
  at("unit-title").textContent = `${layer.name}, map ${channel}, rank ${state.rank + 1} of ${units.length}`;
  at("panels").replaceChildren(...panels);
  const facts = [["activation", value], ["place in the map", `row ${row}, column ${column}`],
    ["receptive field", `rows ${top}–${bottom - 1}, columns ${left}–${right - 1}`], ["image", key]];
  if (label !== null) facts.push(["label", label]);
  facts.push(["fired in", `${percent(fired)} of the images`]);
  if (purity !== null) facts.push(["label purity", percent(purity)]);
  if (selectivity !== null) facts.push(["answers most to", `${most}, selectivity ${selectivity}`]);
  at("unit-facts").replaceChildren(...facts.flatMap(([term, text]) => [
    element("dt", { textContent: term }), element("dd", { textContent: text })]),
  element("dt", { textContent: "maxima above 0, from small to large" }), element("dd", {}, [histogram(bars)]));
  if (alike?.length) at("unit-facts").append(element("dt", { textContent: "maps that answer alike" }), likeLinks(alike));
  at("strip").replaceChildren(...units.map((unit, rank) => {
    const button = element("button", { type: "button" },
      [tilePicture(layer, picture, Math.max(PATCHES, 0), rank, 54, `rank ${rank + 1}: activation ${unit[1]}`)]);
    if (rank === state.rank) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => moveRank(rank - state.rank));
    return button;
  }));
  at("tip").hidden = true;
  if (!at("unit").open) at("unit").showModal();
  toAddress();
}

// CSS pixels of each of so many panels: all in one row; a phone shows them two by two.
function panelWidth(count) {
  if (innerWidth < 700) return Math.floor((innerWidth - 100) / 2);
  const row = Math.min(1140, innerWidth - 32) - 42; // inside the dialog
  return Math.min(260, Math.floor((row - 15 * (count - 1)) / count));
}

// What the tile of a patch shows: at the border of the image the activation depends on a part of it.
function patchCaption(layer, channel, height, width) {
  const [, , rows, columns] = layer.views.find(([first, end]) => first <= channel && channel < end);
  return `patch, ${rows}×${columns} pixels`
    + (height < rows || width < columns ? `; the activation depends on ${height}×${width} of them` : "");
}

// Links to the maps whose maxima correlate most with those of the map that is shown.
function likeLinks(alike) {
  return element("dd", {}, alike.flatMap(([layer, channel, r], n) => {
    const { name } = data.layers[layer];
    const link = element("a", { href: `#${new URLSearchParams({ layer: name, map: channel })}`,
      textContent: `${name}, map ${channel}` });
    return [n ? " · " : "", link, ` (correlation ${r})`];
  }));
}

function moveRank(step) {
  state.rank += step;
  openMap(loaded.get(state.layer));
}

function moveMap(step) {
  const content = loaded.get(state.layer);
  const here = order.findIndex((place) => content.maps[place][0] === state.map);
  const next = content.maps[order[here + step]];
  if (!next) return;
  Object.assign(state, { map: next[0], rank: 0 });
  openMap(content);
}

at("unit").addEventListener("close", () => {
  const channel = state.map;
  state.map = null;
  state.rank = 0;
  toAddress();
  // The event comes a little later: whoever went on to the search in between stays there.
  if (!document.activeElement.matches("input, select")) {
    (filters.opener ?? document.querySelector(`#map-${channel} button`))?.focus();
  }
  filters.opener = null;
});

// ---- pointer

// The map and the rank under the pointer, or null.
function unitAt(event) {
  const box = event.target.closest?.(".sprite");
  if (!box) return null;
  const content = loaded.get(state.layer);
  const map = content.maps[box.closest("button").dataset.place];
  const layer = data.layers[state.layer];
  const place = box.getBoundingClientRect();
  const scale = visible(layer) / place.width;
  const tile = tileAt(layer, (event.clientX - place.left) * scale, (event.clientY - place.top) * scale);
  return tile && map[3][tile[1]] ? { map, rank: tile[1], content } : null;
}

document.addEventListener("pointermove", (event) => {
  const tip = at("tip");
  const unit = event.pointerType !== "touch" && unitAt(event);
  tip.hidden = !unit;
  if (!unit) return;
  const [image, value, , , ...field] = unit.map[3][unit.rank];
  const [source, key, label] = unit.content.images[image];
  const name = `${unit.map[0]} ${unit.rank} ${image}`;
  if (tip.dataset.shows !== name) {
    tip.dataset.shows = name;
    tip.replaceChildren(framedPicture(data.imageSize, source, field, 190, ""),
      element("b", { textContent: label ?? key }), element("span", { textContent: `activation ${value}` }));
  }
  const box = tip.getBoundingClientRect();
  const left = event.clientX + 18 + box.width > innerWidth ? event.clientX - box.width - 18 : event.clientX + 18;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 18, innerHeight - box.height - 8))}px`;
});

at("maps").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const content = loaded.get(state.layer);
  state.map = content.maps[button.dataset.place][0];
  state.rank = unitAt(event)?.rank ?? 0;
  openMap(content);
});

// ---- keys

function moveFocus(key) {
  const buttons = [...at("maps").querySelectorAll("button")];
  const here = buttons.indexOf(document.activeElement);
  if (here < 0) return buttons[0]?.focus();
  const columns = getComputedStyle(at("maps")).gridTemplateColumns.split(" ").length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  const next = buttons[here + step];
  if (!next) return;
  buttons[here].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function moveLayer(step) {
  const layer = state.layer + step;
  if (layer >= 0 && layer < data.layers.length) choose(layer);
}

function choose(layer) {
  Object.assign(state, { layer, map: null, rank: 0 });
  scrollTo(0, 0);
  show({ focus: true });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  const arrow = event.key.startsWith("Arrow");
  if (at("unit").open) {
    if (!arrow) return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") moveRank(event.key === "ArrowLeft" ? -1 : 1);
    else moveMap(event.key === "ArrowUp" ? -1 : 1);
    event.preventDefault();
    return;
  }
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") at("maps").querySelector("button")?.focus();
    return;
  }
  if (arrow) moveFocus(event.key);
  else if (event.key === "/") at("query").focus();
  else if (event.key === "[") moveLayer(-1);
  else if (event.key === "]") moveLayer(1);
  else if (event.key === "s") sortBy(SORTS[(SORTS.indexOf(state.sort) + 1) % SORTS.length]);
  else if (event.key === "t") switchTheme();
  else if (event.key === "?") at("help").showModal();
  else return;
  event.preventDefault();
});

function sortBy(sort) {
  state.sort = at("sort").value = sort;
  show();
}

at("sort").addEventListener("change", () => sortBy(at("sort").value));
at("query").addEventListener("input", () => {
  state.q = at("query").value.trim();
  show();
});
at("tools").addEventListener("submit", (event) => event.preventDefault());
at("help-button").addEventListener("click", () => at("help").showModal());

// ---- beginning

at("layers").append(...data.layers.map(({ name }, n) => {
  const link = element("a", { href: `#${new URLSearchParams({ layer: name })}` }, [name, element("span")]);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    choose(n);
  });
  return link;
}));
addEventListener("hashchange", () => {
  if (at("unit").open) at("unit").close();
  fromAddress();
  show();
});
fromAddress();
show();
