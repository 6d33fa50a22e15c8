"""What is written of a store when all images are done: class means, the figure, the record."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from zfkernels.data import ImageSource
from zfkernels.output import write_json, write_whole
from zfkernels.output.workplace import Workplace
from zfkernels.store.contents import EFFECT
from zfkernels.store.formats import FORMATS
from zfkernels.store.journal import Journal
from zfkernels.store.layout import FILE, Layout
from zfkernels.store.means import ClassMeans
from zfkernels.viz import store_figure

# store.json comes last: where it is, the rest is too.
ENTRIES = ("maps", FILE, "class_means.npz", "summary.png", "store.json")
VERSION = "zfkernels sweeps 1"


def finish(
    place: Workplace,
    record: Mapping[str, Any],
    source: ImageSource,
    layout: Layout | None,
    journal: Journal,
    format: str,
) -> None:
    """Writes it to the state of a run."""
    assert layout is not None
    arrays = FORMATS[format](place.state / ENTRIES[0], layout.variables)
    entries = [
        {key: value for key, value in journal.entries[row].items() if key != "files"} for row in sorted(journal.entries)
    ]
    used = [entry for entry in entries if "reason" not in entry]

    def drops() -> Iterator[tuple[str, np.ndarray]]:
        for entry in used:
            yield name_of_class(entry), arrays.get(entry["row"], [EFFECT])[EFFECT]

    means = ClassMeans.of(drops())
    file = io.BytesIO()
    np.savez_compressed(
        file, allow_pickle=False, label=np.array(means.labels), count=means.counts, drop=means.drop,
        largest=means.largest,
    )  # fmt: skip
    write_whole(place.state / ENTRIES[2], file.getvalue())
    figure = store_figure(means, layout.variables[EFFECT].dims, layout.shared["positions"][1],
                          boxes=layout.shared.get("boxes", (None, None))[1], name=source.name)  # fmt: skip
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150, metadata={"Software": "zfkernels"})
    write_whole(place.state / ENTRIES[3], picture.getvalue())
    left_out = [{"image": entry["key"], "reason": entry["reason"]} for entry in entries if "reason" in entry]
    left_out += [{"image": key, "reason": reason} for key, reason in source.ignored]
    write_json(
        place.state / ENTRIES[-1],
        {
            "version": VERSION,
            "format": format,
            "images": used,
            "skipped": left_out,
            **layout.record(),
            "run": record,
        },
    )


def name_of_class(entry: Mapping[str, Any]) -> str:
    """What an image is counted under: its label, or the class whose drop was kept."""
    if entry["label"] is not None:
        return str(entry["label"])
    return "all images" if entry["class"] is None else f"class {entry['class']}"
