"""zfkernels demo"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zfkernels.cli import options
from zfkernels.cli.gallery import describe, summary

if TYPE_CHECKING:
    from torch import Tensor

    from zfkernels.models import Preprocess

MODEL = "zfnet64"
# What the network knows, and its names for it: a photo of scikit-image's, and one that ships here.
EMBEDDED, OWN = {"coffee": "espresso"}, {"monarch.jpg": "monarch"}
FILES = ("gallery.png", "occlusion.png")


@click.command()
@click.option("--out", type=options.Folder(), default=Path("demo_out"), help="Folder of the results.")
@options.format_option
@options.workers_option
@options.json_option
def demo(out: Path, workers: int | None, as_json: bool) -> None:
    """The main job on the shipped network and photos: a feature gallery and occlusion maps. No network, no GPU."""
    from zfkernels.gallery import build_gallery, default_layers
    from zfkernels.models import get_model, get_preprocess
    from zfkernels.network.network import trace_model
    from zfkernels.output import staged
    from zfkernels.viz import save_sheet

    sheet, occlusion_maps = files = options.in_format(FILES)
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
        images = _occlusion_maps(model, preprocess, folder / occlusion_maps)
        occlusion = {"figure": str(out / occlusion_maps), "images": images}
    result = {**summary(gallery.info, gallery.path), "figure": str(out / sheet), "occlusion": occlusion}
    text = "\n".join(
        (
            describe(gallery.info, gallery.path),
            f"a page of it: {out / sheet}",
            f"occlusion maps: {out / occlusion_maps}",
            f"look into the network, photo by photo: zfkernels serve --gallery {out / 'gallery'}",
        )
    )
    options.report(result, text, as_json)


def photos(preprocess: Preprocess) -> Iterator[tuple[str, Tensor, str]]:
    """Of each photo that the network knows its name, the image [1, 3, H, W], and the beginning of its class's name."""
    from zfkernels.cli.occlude_study import load_image
    from zfkernels.data import embedded_photos, open_source

    source = embedded_photos()
    for name, answer in EMBEDDED.items():
        yield *load_image(source, source.keys.index(name), preprocess), answer
    for name, answer in OWN.items():
        yield *load_image(open_source(Path(__file__).parent / "demo_photos" / name), 0, preprocess), answer


def _occlusion_maps(model: Any, preprocess: Preprocess, path: Path) -> list[dict[str, Any]]:
    """Draws figure 7 of the photos: what the network says while a square hides each part of them."""
    from zfkernels.cli.occlude_study import Square, Study
    from zfkernels.viz import occlusion_sheet

    study, square = Study(model, preprocess, MODEL, None, "embedded"), Square(20, 2, "neutral")
    results = [study.run(name, image, None, square, progress=False) for name, image, _ in photos(preprocess)]
    occlusion_sheet([result.row for result in results]).savefig(path, dpi=150)
    return [result.numbers for result in results]
