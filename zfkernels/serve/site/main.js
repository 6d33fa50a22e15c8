// The page: one network, one layer of it, one photo or two.

import { fromAddress, newPane, state, toAddress } from "./address.js";
import { facts, listLayers, markLayer } from "./layers.js";
import { Maps } from "./maps.js";
import { Pane } from "./pane.js";
import { Photos } from "./photos.js";
import { ask } from "./server.js";
import { Winners } from "./winners.js";

const at = (id) => document.getElementById(id);
const panes = [];
let network, maps, photos, winners;

function say(error) {
  at("say").textContent = error.message ?? String(error);
  at("say").hidden = false;
  clearTimeout(say.later);
  say.later = setTimeout(() => { at("say").hidden = true; }, 8000);
}

const quietly = (work) => (...given) => work(...given).catch(say);

const page = {
  state, say,
  get network() { return network; },
  changed: () => { if (page.ready) toAddress(); },
  close: (index) => {
    state.panes.splice(index, 1);
    panes.splice(index, 1)[0].remove();
    panes.forEach((pane, n) => { pane.index = n; pane.node.dataset.pane = n; });
    arrange();
    page.changed();
    if (panes.length) showLayer();
    else clear();
  },
};

function clear() {
  maps.rows = [];
  maps.draw(state.sort, null);
  winners.show(null, null);
}

// ---- photos

const openPhoto = quietly(async (photo, index, place = null) => {
  const n = Math.min(index, state.panes.length);
  const before = state.panes[n];
  state.panes[n] = { ...newPane(photo), at: place };
  try {
    await showPhotos();
  } catch (error) {
    if (before) state.panes[n] = before; // what was shown stays
    throw error;
  }
});

async function showPhotos() {
  for (const [n, record] of state.panes.entries()) {
    if (!panes[n]) {
      panes[n] = new Pane(n, record, page);
      at("panes").append(panes[n].node);
    }
    try {
      await panes[n].open(record);
    } catch (error) {
      if (!panes[n].opened) {
        panes.splice(n)[0].remove();
        state.panes.splice(n);
      }
      arrange();
      throw error;
    }
  }
  while (panes.length > state.panes.length) panes.pop().remove();
  arrange();
  await drawLayer();
}

function arrange() {
  at("panes").classList.toggle("two", panes.length > 1);
  at("empty").hidden = panes.length > 0;
  at("beside").disabled = panes.length === 0;
}

// ---- layers and maps

const index = () => network.layers.findIndex(([name]) => name === state.layer);

async function drawLayer() {
  const info = network.layers[index()];
  at("layer").textContent = state.layer;
  at("layer-facts").textContent = facts(info);
  markLayer(at("layers"), index());
  document.title = `${state.layer} · ${network.name}`;
  if (!state.panes.length) return toAddress();
  const { layer } = state;
  if (!await maps.load(layer, state.panes.map(({ photo }) => photo)) || layer !== state.layer) return;
  if (state.map === null || state.map >= info[2]) state.map = maps.strongest[0];
  maps.draw(state.sort, state.map);
  await showMap();
}

async function showMap() {
  toAddress();
  maps.mark(state.map);
  await Promise.all([...panes.map((pane) => pane.showUnit()), network.gallery ? winners.show(state.layer, state.map) : null]);
}

const showLayer = quietly(drawLayer);
const chooseMap = quietly(async (map) => {
  state.map = map;
  for (const record of state.panes) record.at = null;
  await showMap();
});

function chooseLayer(n) {
  if (n < 0 || n >= network.layers.length) return;
  state.layer = network.layers[n][0];
  state.map = null;
  for (const record of state.panes) record.at = null;
  showLayer();
}

// ---- beginning

const begin = quietly(async () => {
  fromAddress();
  if (index() < 0) state.layer = usual();
  at("sort").value = state.sort;
  if (!state.panes.length && network.data) {
    const [first] = (await ask("/api/photos", {})).photos;
    if (first) state.panes = [newPane(first[0])];
  }
  arrange();
  try {
    await showPhotos();
  } finally {
    page.ready = true;
  }
});

// A layer in the middle: small enough cells to see where, deep enough to see what.
function usual() {
  const maps = network.layers.filter(([, , , size]) => size && size[0] > 1);
  const among = maps.length ? maps : network.layers;
  return among[Math.floor(among.length / 2)][0];
}

at("sort").addEventListener("change", () => {
  state.sort = at("sort").value;
  maps.draw(state.sort, state.map);
  toAddress();
});
at("choose").addEventListener("click", () => photos.choose(0));
at("beside").addEventListener("click", () => photos.choose(1));
at("help-button").addEventListener("click", () => at("help").showModal());
at("link").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link to what is shown is copied.");
  } catch {
    say("The address of this page is the link.");
  }
});
addEventListener("hashchange", () => {
  for (const pane of panes.splice(0)) pane.remove();
  page.ready = false;
  begin();
});

document.addEventListener("keydown", (event) => {
  const busy = event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]");
  if (busy || event.target.matches("input, select")) return;
  if (event.key.startsWith("Arrow")) maps.moveFocus(event.key);
  else if (event.key === "p") photos.choose(0);
  else if (event.key === "b" && panes.length) photos.choose(1);
  else if (event.key === "[") chooseLayer(index() - 1);
  else if (event.key === "]") chooseLayer(index() + 1);
  else if (event.key === "s") panes[0]?.toggleSweep();
  else if (event.key === "t") switchTheme();
  else if (event.key === "?") at("help").showModal();
  else return;
  event.preventDefault();
});

quietly(async () => {
  network = await ask("/api/network");
  at("network").textContent = network.name;
  at("facts").textContent = `${network.layers.length} layers · photos of ${network.size.join("×")} px`
    + (network.data ? ` · ${network.data[0]}` : "");
  maps = new Maps(at("maps"), at("more"), chooseMap);
  winners = new Winners(at("winners"), quietly(async (photo, place) => {
    await openPhoto(photo, 0, place);
  }));
  photos = new Photos(network, { open: openPhoto, say });
  listLayers(at("layers"), network, chooseLayer);
  await begin();
})();
