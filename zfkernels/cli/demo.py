"""zfkernels demo"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zfkernels.cli import options
from zfkernels.cli.gallery import describe, summary

MODEL = "zfnet64"
PHOTOS = {"coffee": "espresso"}  # whose classes the network knows
FILES = ("gallery.png", "occlusion.png")


@click.command()
@click.option("--out", type=options.Folder(), default=Path("demo_out"), help="Folder of the results.")
@options.format_option
@options.workers_option
@options.json_option
def demo(out: Path, workers: int | None, as_json: bool) -> None:
    """The main job on the shipped network and photos: a feature gallery and an occlusion map. No network, no GPU."""
    from zfkernels.gallery import build_gallery, default_layers
    from zfkernels.models import get_model, get_preprocess
    from zfkernels.network.network import trace_model
    from zfkernels.output import staged
    from zfkernels.viz import save_sheet

    sheet, map_of_photos = files = options.in_format(FILES)
    options.check_out("demo", out, files)
    model, preprocess = get_model(MODEL), get_preprocess(MODEL)
    gallery = build_gallery(
        model,
        "embedded",
        layers=default_layers(trace_model(model, (preprocess.size, preprocess.size))),
        out=out / "gallery",
        workers=workers,
        resume=False,
        progress=not as_json,
        preprocess=preprocess,
        title=MODEL,
    )
    with staged(out, files, "demo") as folder:
        save_sheet(gallery.figure(6, columns=3), folder / sheet)
        photos = _occlusion_maps(model, preprocess, folder / map_of_photos)
        occlusion = {"figure": str(out / map_of_photos), "images": photos}
    result = {**summary(gallery.info, gallery.path), "figure": str(out / sheet), "occlusion": occlusion}
    text = "\n".join(
        (
            describe(gallery.info, gallery.path),
            f"a page of it: {out / sheet}",
            f"occlusion maps: {out / map_of_photos}",
            f"look into the network, photo by photo: zfkernels serve --gallery {out / 'gallery'}",
        )
    )
    options.report(result, text, as_json)


def _occlusion_maps(model: Any, preprocess: Any, path: Path) -> list[dict[str, Any]]:
    """Draws figure 7 of the photos: what the network says while a square hides each part of them."""
    from zfkernels.cli.occlude_study import Square, Study, load_image
    from zfkernels.data import embedded_photos
    from zfkernels.viz import occlusion_sheet

    source, square = embedded_photos(), Square(12, 2, "neutral")
    study = Study(model, preprocess, MODEL, None, "embedded")
    results = [
        study.run(*load_image(source, source.keys.index(photo), preprocess), None, square, progress=False)
        for photo in PHOTOS
    ]
    occlusion_sheet([result.row for result in results]).savefig(path, dpi=150)
    return [result.numbers for result in results]
