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
@options.workers_option
@options.json_option
def demo(out: Path, workers: int | None, as_json: bool) -> None:
    """The main job on the shipped network and photos: a feature gallery and an occlusion map. No network, no GPU."""
    from zfkernels.gallery import build_gallery, default_layers
    from zfkernels.models import get_model, get_preprocess
    from zfkernels.network.network import trace_model
    from zfkernels.output import staged

    options.check_out("demo", out, FILES)
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
    with staged(out, FILES, "demo") as folder:
        gallery.figure(6, columns=3).save(folder / FILES[0])
        occlusion = {"figure": str(out / FILES[1]), **_occlusion_map(model, preprocess, folder / FILES[1])}
    result = {**summary(gallery.info, gallery.path), "figure": str(out / FILES[0]), "occlusion": occlusion}
    text = "\n".join(
        (
            describe(gallery.info, gallery.path),
            f"a page of it: {out / FILES[0]}",
            f"an occlusion map: {out / FILES[1]}",
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
