// The list of layers: name, number of maps and their size; of those of one block the first has its whole name.

const times = (size) => (size ? size.join("×") : "");

export function facts([, kind, channels, size, stride, field]) {
  const parts = [kind, size && size[0] * size[1] > 1 ? `${channels} maps of ${times(size)}` : `${channels} units`];
  if (stride) parts.push(`one cell every ${times(stride)} px`);
  parts.push(field ? `each sees ${times(field)} px` : "each sees the whole photo");
  return parts.join(" · ");
}

export function listLayers(nav, network, choose) {
  const shown = new Set(network.gallery ?? []);
  const paths = network.layers.map(([name]) => name.slice(0, name.lastIndexOf(".") + 1));
  nav.replaceChildren(...network.layers.map(([name, kind, channels, size], n) => {
    const inner = n > 0 && paths[n] === paths[n - 1] && paths[n].split(".").length > 2;
    const link = element("a", { href: `#${new URLSearchParams({ layer: name })}`, title: `${name}: ${kind}`, ariaLabel: name }, [
      element("span", { className: `name${shown.has(name) ? " starred" : ""}${inner ? " inner" : ""}` },
        [inner ? name.slice(paths[n].length) : name]),
      element("span", { className: "size", textContent: size ? `${channels} · ${times(size)}` : channels }),
    ]);
    link.addEventListener("click", (event) => {
      event.preventDefault();
      choose(n);
    });
    return link;
  }));
}

export function markLayer(nav, chosen) {
  for (const [n, link] of [...nav.children].entries()) {
    if (n === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const link = nav.children[chosen];
  if (!link) return;
  const wide = nav.scrollWidth > nav.clientWidth; // a phone shows the layers in one line
  if (wide) nav.scrollLeft = link.offsetLeft - nav.offsetLeft - (nav.clientWidth - link.offsetWidth) / 2;
  else if (link.offsetTop < nav.scrollTop || link.offsetTop + link.offsetHeight > nav.scrollTop + nav.clientHeight) {
    nav.scrollTop = link.offsetTop - nav.clientHeight / 2;
  }
}
