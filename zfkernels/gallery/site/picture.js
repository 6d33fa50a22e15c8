"use strict";
// Drawing parts of pictures: tiles of a sprite, and an image with the frame of a receptive field. Text is set as text,
// never as markup.

function element(name, options = {}, children = []) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

// Left, top, width and height of a tile in a sprite, in its pixels.
function tileBox(layer, block, rank) {
  const [height, width] = layer.tile;
  const [tileGap, blockGap] = layer.gaps;
  const blockWidth = layer.side * (width + tileGap) - tileGap;
  const row = Math.floor(rank / layer.side);
  const left = block * (blockWidth + blockGap) + (rank % layer.side) * (width + tileGap);
  return [left, row * (height + tileGap), width, height];
}

// Which tile is at a place of a sprite, in its pixels: [block, rank], or null between tiles.
function tileAt(layer, x, y) {
  for (let block = 0; block < 3; block += 1) {
    for (let rank = 0; rank < layer.side * layer.side; rank += 1) {
      const [left, top, width, height] = tileBox(layer, block, rank);
      if (x >= left && x < left + width && y >= top && y < top + height) return [block, rank];
    }
  }
  return null;
}

// One tile of a sprite, to be shown with a given width in CSS pixels.
function tilePicture(layer, source, block, rank, shown, name) {
  const [left, top, width, height] = tileBox(layer, block, rank);
  const scale = shown / width;
  const node = element("div", { className: "tile", role: "img", "aria-label": name });
  node.style.cssText = `width:${shown}px;height:${height * scale}px;`
    + `background-size:${layer.sprite[0] * scale}px ${layer.sprite[1] * scale}px;`
    + `background-position:${-left * scale}px ${-top * scale}px`;
  node.style.backgroundImage = `url("${source}")`;
  return node;
}

// The whole image with the frame of the receptive field: top, left, bottom, right in its pixels.
function framedPicture(size, source, field, shown, name) {
  const [height, width] = size;
  const [top, left, bottom, right] = field;
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  const frame = element("span", { className: "frame" });
  frame.style.cssText = `top:${percent(top, height)};left:${percent(left, width)};`
    + `height:${percent(bottom - top, height)};width:${percent(right - left, width)}`;
  const image = element("img", { src: source, alt: name, width: shown, height: Math.round((shown * height) / width) });
  return element("div", { className: "framed" }, [image, frame]);
}
