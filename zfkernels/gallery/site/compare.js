// Two galleries beside each other: one layer of the first at a time, each of its maps beside its partner.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const state = { layer: 0, sort: "channel" };

function spriteOf(side, layer, channel) {
  return `${data.sides[side].folder}/maps/${String(layer).padStart(3, "0")}/${String(channel).padStart(5, "0")}.webp`;
}

// The blocks of a sprite that a gallery's page shows too; what is left of it is cut off.
function half(side, layer, channel) {
  const { name, sprite: [width, height], shown } = data.sides[side].layers[layer];
  const image = element("img", { loading: "lazy", alt: "", width, height });
  image.src = encodeURI(spriteOf(side, layer, channel));
  image.style.width = `${(100 * width) / shown}%`;
  const box = element("span", { className: "sprite" }, [image]);
  box.style.aspectRatio = `${shown} / ${height}`;
  const caption = element("figcaption", { textContent: `${name}, map ${channel}` });
  return element("figure", {}, [box, caption]);
}

function pair(index, [channel, otherLayer, otherChannel, correlation, shared]) {
  const facts = [`${shared} winning ${shared === 1 ? "image" : "images"} shared`];
  if (correlation !== null) facts.unshift(`correlation ${correlation.toFixed(2)}`);
  return element("div", { className: "pair", role: "listitem" }, [
    half(0, index, channel), half(1, otherLayer, otherChannel),
    element("p", { textContent: facts.join(" · ") }),
  ]);
}

// How alike two maps are: by correlation where it is known, else by the images that they share.
function likeness([, , , correlation, shared]) {
  return correlation ?? shared;
}

function show() {
  const { layer, index, maps } = data.layers[state.layer];
  const order = { channel: (a, b) => a[0] - b[0], least: (a, b) => likeness(a) - likeness(b),
    most: (a, b) => likeness(b) - likeness(a) }[state.sort];
  at("name").textContent = layer;
  at("about").textContent = `${maps.length} ${maps.length === 1 ? "pair" : "pairs"}; left: ${data.titles[0]}, right: ${data.titles[1]}`;
  at("pairs").replaceChildren(...[...maps].sort(order).map((one) => pair(index, one)));
  for (const [n, link] of [...at("layers").children].entries()) {
    if (n === state.layer) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function fromAddress() {
  const name = new URLSearchParams(location.hash.slice(1)).get("layer");
  state.layer = Math.max(0, data.layers.findIndex(({ layer }) => layer === name));
}

at("layers").append(...data.layers.map(({ layer }) => element("a",
  { href: `#${new URLSearchParams({ layer })}`, textContent: layer })));
at("sort").addEventListener("change", () => {
  state.sort = at("sort").value;
  show();
});
at("tools").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", () => {
  fromAddress();
  show();
});
fromAddress();
show();
