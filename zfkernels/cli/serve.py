"""zfkernels serve"""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from zfkernels.cli import options


@click.command()
@options.model_options(default="zfnet64")
@options.data_option
@options.limit_option
@click.option(
    "--gallery",
    "folder",
    type=click.Path(path_type=Path),
    help="A gallery of this network: the winners of each map are shown, and lead into their photos.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    help="Address to be bound to; another than this machine's own is opened with a token.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8813, help="0: any that is free.")
@click.option("--memory", type=click.IntRange(min=1), default=512, help="MiB of clean passes that are kept.")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")  # fmt: skip
def serve(
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    data: str,
    limit: int | None,
    folder: Path | None,
    host: str,
    port: int,
    memory: int,
    opens: bool,
) -> None:
    """A local page on one network: photos, maps, projections, and the square that hides what the network looks at.

    Drop a photo on the page or choose one of --data. It runs until it is interrupted.
    """
    from zfkernels._extras import require
    from zfkernels.data import EmbeddedPhotos
    from zfkernels.gallery import Gallery
    from zfkernels.serve import Explorer
    from zfkernels.serve.network import Network
    from zfkernels.serve.photos import Photos
    from zfkernels.serve.winners import Winners

    require("starlette", "serve")
    from zfkernels.serve.run import serve as run

    loaded, preprocess = options.load_model(model, weights, device)
    source = options.open_data(data, limit)
    if isinstance(source, EmbeddedPhotos) and limit is None:
        source.order = [place for place in source.order if "/" not in source.keys[place]]  # whole photos
    network = Network(loaded, preprocess, model, backend)
    winners = None if folder is None else Winners(Gallery.open(folder), network, source)
    photos = Photos(preprocess, source, winners)

    def ready(address: str) -> None:
        options.say(f"{model} at {address}  (stop: Ctrl-C)")
        if opens:
            webbrowser.open(address)

    try:
        run(Explorer(network, memory << 20), photos, winners, host=host, port=port, ready=ready)
    except KeyboardInterrupt:
        options.say("stopped")
