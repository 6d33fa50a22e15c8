"""zfkernels demo"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zfkernels.cli import options
from zfkernels.cli.gallery import describe, summary

MODEL = "zfnet64"
PHOTO = "coffee"  # which the network knows: espresso
WINDOW, STRIDE = 12, 2
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

    sheet, map_of_photo = files = options.in_format(FILES)
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
        occlusion = {"figure": str(out / map_of_photo), **_occlusion_map(model, preprocess, folder / map_of_photo)}
    result = {**summary(gallery.info, gallery.path), "figure": str(out / sheet), "occlusion": occlusion}
    text = "\n".join(
        (
            describe(gallery.info, gallery.path),
            f"a page of it: {out / sheet}",
            f"an occlusion map: {out / map_of_photo}",
            f"look into the network, photo by photo: zfkernels serve --gallery {out / 'gallery'}",
        )
    )
    options.report(result, text, as_json)


def _occlusion_map(model: Any, preprocess: Any, path: Path) -> dict[str, Any]:
    """Draws how the probability of the network's answer falls where a square hides the photo."""
    import zfkernels
    from zfkernels.data import embedded_photos

    source = embedded_photos()
    image = preprocess(source.load(source.keys.index(PHOTO))[0])[None]
    sweep = zfkernels.occlusion_sweep(model, image, window=WINDOW, stride=STRIDE)
    answer = int(sweep.clean.argmax())
    sweep.plot(image, names=[PHOTO]).savefig(path, dpi=150)
    return {"class": sweep.look.name(answer), "probability": float(sweep.clean_probability())}
