// The gallery's winners of the chosen map: each leads into its photo.

import { address, Lane } from "./server.js";
import { short } from "./maps.js";

export class Winners {
  constructor(part, open) {
    Object.assign(this, { part, open, lane: new Lane("winners") });
  }

  async show(layer, map) {
    const answer = map === null ? null : await this.lane.ask("/api/winners", { layer, map });
    const found = answer?.winners ?? [];
    this.part.hidden = !found.length;
    if (!found.length) return;
    const source = address("/api/winners.png", { layer, map });
    const list = element("div", { className: "winners" }, found.map((winner, n) => {
      const tile = element("span", { className: "winner" });
      tile.style.backgroundImage = `url("${source}")`;
      tile.style.backgroundSize = `${100 * found.length}% 100%`;
      tile.style.backgroundPosition = `${found.length > 1 ? (100 * n) / (found.length - 1) : 0}% 0`;
      tile.style.aspectRatio = `${answer.tile[1]} / ${answer.tile[0]}`;
      const button = element("button", { type: "button", title: `${winner.name}: ${short(winner.value)}` }, [tile]);
      button.setAttribute("aria-label", `rank ${winner.rank + 1}: ${winner.label ?? winner.name}, ${short(winner.value)}`);
      button.addEventListener("click", () => this.open(winner.photo, [winner.row, winner.column]));
      return button;
    }));
    this.part.replaceChildren(element("p", { textContent: `Map ${map} in the gallery: press to open the photo` }), list);
  }
}
