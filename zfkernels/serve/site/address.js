// What is shown stands in the address, so that a link leads back to it:
// #photo=data-3&layer=features.4&map=7&at=5.6&square=20.30.28&beside=data-4&at2=…&square2=…&sort=mean

export const state = { layer: null, map: null, sort: "strongest", panes: [] };

const SORTS = ["strongest", "mean", "map"];

const numbers = (text, count) => {
  const found = (text ?? "").split(".");
  return found.length === count && found.every((part) => /^-?\d{1,6}$/.test(part)) ? found.map(Number) : null;
};

export const newPane = (photo) => ({ photo, at: null, square: null });

export function toAddress() {
  const parts = new URLSearchParams();
  const put = (key, value) => { if (value !== null && value !== undefined) parts.set(key, value); };
  state.panes.forEach((pane, n) => {
    const suffix = n ? "2" : "";
    put(n ? "beside" : "photo", pane.photo);
    put(`at${suffix}`, pane.at?.join("."));
    put(`square${suffix}`, pane.square?.join("."));
  });
  put("layer", state.layer);
  put("map", state.map);
  if (state.sort !== "strongest") put("sort", state.sort);
  const hash = `#${parts}`;
  if (hash !== location.hash) history.replaceState(null, "", hash);
}

export function fromAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  state.layer = parts.get("layer");
  state.map = /^\d{1,9}$/.test(parts.get("map") ?? "") ? Number(parts.get("map")) : null;
  state.sort = SORTS.includes(parts.get("sort")) ? parts.get("sort") : "strongest";
  state.panes = [];
  for (const [name, suffix] of [["photo", ""], ["beside", "2"]]) {
    if (!parts.get(name)) break;
    state.panes.push({
      photo: parts.get(name), at: numbers(parts.get(`at${suffix}`), 2), square: numbers(parts.get(`square${suffix}`), 3),
    });
  }
}
