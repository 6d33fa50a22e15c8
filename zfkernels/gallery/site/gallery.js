"use strict";
// Says of the tile under the pointer which image it comes from. All text is set as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");

// Rank of the tile under the pointer; -1 between the blocks.
function rankAt(img, gap, event) {
  const box = img.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width;
  const y = (event.clientY - box.top) / box.height;
  const width = (1 - gap * (data.blocks - 1)) / data.blocks;
  const inBlock = (x % (width + gap)) / width;
  if (inBlock >= 1) return -1;
  return Math.floor(y * data.side) * data.side + Math.floor(inBlock * data.side);
}

document.addEventListener("pointermove", (event) => {
  const img = event.target.closest?.("figure img");
  const section = img?.closest("section");
  const units = img && data.maps[section.dataset.layer][img.parentElement.dataset.channel];
  const unit = units?.[rankAt(img, Number(section.dataset.gap), event)];
  tip.hidden = !unit;
  if (!unit) return;
  const [image, value, top, left, bottom, right] = unit;
  const [key, label] = data.images[image];
  const name = document.createElement("b");
  name.textContent = label ?? key;
  tip.replaceChildren(name, document.createElement("br"));
  if (label !== null) tip.append(key, document.createElement("br"));
  tip.append(`activation ${value} · rows ${top}–${bottom}, columns ${left}–${right}`);
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 18, innerHeight - box.height - 8)}px`;
});
