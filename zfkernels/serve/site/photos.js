// Choosing photos: from the data set, from a file, or dropped on the page.

import { ask, photoAt, send } from "./server.js";

const at = (id) => document.getElementById(id);

// `open` is told the photo and which pane it is for: 0 the first, 1 the one beside it.
export class Photos {
  constructor({ largest, data }, { open, say }) {
    Object.assign(this, { largest, data, open, say, pane: 0, shown: 0 });
    at("file").addEventListener("change", () => {
      const [file] = at("file").files;
      at("file").value = "";
      if (file) this.take(file, this.pane);
    });
    at("picker-file").addEventListener("click", () => at("file").click());
    at("browse").addEventListener("click", () => at("file").click());
    at("picker-query").addEventListener("input", () => this.list());
    at("picker-more").addEventListener("click", () => this.list(this.shown));
    at("picker-photos").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      at("picker").close();
      this.open(button.dataset.photo, this.pane);
    });
    this.drops();
  }

  choose(pane) {
    this.pane = pane;
    if (!this.data) {
      at("file").click();
      return;
    }
    at("picker-title").textContent = pane ? "A photo beside this one" : "Photos";
    at("picker").showModal();
    at("picker-query").focus();
    if (!this.shown) this.list();
  }

  async list(first = 0) {
    const query = at("picker-query").value.trim();
    const mine = this.listing = {};
    try {
      const { photos, total } = await ask("/api/photos", { query, first });
      if (mine !== this.listing) return;
      if (!first) at("picker-photos").replaceChildren();
      this.shown = first + photos.length;
      at("picker-photos").append(...photos.map(([photo, name]) => this.entry(photo, name)));
      at("picker-count").textContent = `${this.data[0]}: ${total} ${total === 1 ? "photo" : "photos"}`;
      at("picker-more").hidden = this.shown >= total;
    } catch (error) {
      this.say(error);
    }
  }

  entry(photo, name) {
    const image = element("img", { src: photoAt(photo, "preview.png"), alt: "", loading: "lazy", width: 96, height: 96 });
    const button = element("button", { type: "button", title: name }, [image, element("span", { textContent: name })]);
    button.dataset.photo = photo;
    image.addEventListener("error", () => button.classList.add("broken"));
    return button;
  }

  async take(file, pane) {
    if (file.size > this.largest) {
      this.say(new Error(`${file.name} is larger than ${this.largest / 2 ** 20} MiB`));
      return;
    }
    try {
      at("picker").close();
      const { photo } = await send(file);
      await this.open(photo, pane);
    } catch (error) {
      this.say(error);
    }
  }

  drops() {
    const curtain = at("curtain");
    let depth = 0;
    const hasFile = (event) => [...event.dataTransfer?.types ?? []].includes("Files");
    addEventListener("dragenter", (event) => { if (hasFile(event)) curtain.hidden = !(depth += 1); });
    addEventListener("dragleave", (event) => { if (hasFile(event)) curtain.hidden = (depth -= 1) <= 0; });
    addEventListener("dragover", (event) => { if (hasFile(event)) event.preventDefault(); });
    addEventListener("drop", (event) => {
      depth = 0;
      curtain.hidden = true;
      if (!hasFile(event)) return;
      event.preventDefault();
      const second = event.target.closest?.(".pane")?.dataset.pane === "1";
      const [file] = event.dataTransfer.files;
      if (file) this.take(file, second ? 1 : 0);
    });
  }
}
