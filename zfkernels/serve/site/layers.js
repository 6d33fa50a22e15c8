// The list of layers: name, kind, number of maps and their size.

const times = (size) => (size ? size.join("×") : "");

export function facts([, kind, channels, size, stride, field]) {
  const parts = [kind, size && size[0] * size[1] > 1 ? `${channels} maps of ${times(size)}` : `${channels} units`];
  if (stride) parts.push(`one cell every ${times(stride)} px`);
  parts.push(field ? `each sees ${times(field)} px` : "each sees the whole photo");
  return parts.join(" · ");
}

export function listLayers(nav, network, choose) {
  const shown = new Set(network.gallery ?? []);
  nav.replaceChildren(...network.layers.map(([name, kind, channels, size], n) => {
    const link = element("a", { href: `#${new URLSearchParams({ layer: name })}`, title: kind }, [
      element("span", { className: shown.has(name) ? "name starred" : "name" }, parted(name)),
      element("span", { className: "size", textContent: size ? `${channels} · ${times(size)}` : channels }),
    ]);
    link.addEventListener("click", (event) => {
      event.preventDefault();
      choose(n);
    });
    return link;
  }));
}

// The last part of a name stays readable where there is no room for all of it.
function parted(name) {
  const cut = name.lastIndexOf(".") + 1;
  return [element("span", { className: "path", textContent: name.slice(0, cut) }),
    element("span", { textContent: name.slice(cut) })];
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
