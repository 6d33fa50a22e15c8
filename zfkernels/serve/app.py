"""The web application: one route for each question of the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from io import BytesIO
from typing import Any, TypeVar

import anyio
import numpy as np
import torch
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from torch import Tensor

from zfkernels.data.source import UnreadableImageError
from zfkernels.output import to_json
from zfkernels.serve import pictures
from zfkernels.serve.arguments import RefusedError, needed, number, number_or_none, text
from zfkernels.serve.explorer import Explorer, Square
from zfkernels.serve.guard import Guard
from zfkernels.serve.page import site_files
from zfkernels.serve.photos import Photo, Photos, UnknownPhotoError
from zfkernels.serve.streams import Sweeps
from zfkernels.serve.sweep import SweepOptions
from zfkernels.serve.uploads import Uploads
from zfkernels.serve.winners import Winners
from zfkernels.serve.worker import BusyError, StaleError, Worker

Result = TypeVar("Result")
MOST = 10**9  # of any number in an address
PAGE = 60  # photos of a data set that are listed at a time
PREVIEW = 96  # pixels of a photo in the list


class Api:
    """What the page asks for.

    Args:
        explorer: The network.
        photos: What can be looked at.
        winners: A gallery of the network, or None.
        worker: The thread that computes.
    """

    def __init__(self, explorer: Explorer, photos: Photos, winners: Winners | None, worker: Worker) -> None:
        self.explorer, self.photos, self.winners, self.worker = explorer, photos, winners, worker
        self.uploads, self.sweeps = Uploads(photos), Sweeps(explorer, worker)

    def routes(self) -> list[Route]:
        """All of them."""
        photo = "/api/photos/{photo}"
        return [
            Route("/api/network", self.network),
            Route("/api/photos", self.list),
            Route("/api/photos", self.drop, methods=["POST"]),
            Route(f"{photo}/answers", self.answers),
            Route(f"{photo}/image.png", self.image),
            Route(f"{photo}/preview.png", self.preview),
            Route(f"{photo}/maps", self.maps),
            Route(f"{photo}/maps.png", self.thumbnails),
            Route(f"{photo}/map.png", self.map),
            Route(f"{photo}/map.npy", self.map_values),
            Route(f"{photo}/unit", self.unit),
            Route(f"{photo}/unit.png", self.unit_picture),
            Route(f"{photo}/unit.npy", self.unit_values),
            Route(f"{photo}/probe", self.probe),
            Route(f"{photo}/sweep", self.sweep),
            Route("/api/winners", self.winners_of),
            Route("/api/winners.png", self.winners_strip),
        ]

    async def network(self, request: Request) -> Response:
        """The network and what there is to look at."""
        network, source = self.explorer.network, self.photos.source
        fill = self.photos.preprocess.to_pixels(torch.zeros(3, 1, 1)).flatten().tolist()
        layers = [
            [info.name, info.kind, info.channels, info.size, info.stride, info.receptive_field]
            for info in network.layers
        ]
        return answer({
            "name": network.name, "size": network.size, "layers": layers, "answers": network.answers,
            "classes": network.class_names, "data": None if source is None else [source.name, len(source)],
            "gallery": None if self.winners is None else self.winners.gallery.layers,
            "largest": self.uploads.max_bytes, "fill": fill,
        })  # fmt: skip

    async def list(self, request: Request) -> Response:
        """Photos of the data set, by a part of their names."""
        source = self.photos.source
        first, query = number(request, "first", 0, MOST, 0), (text(request, "query") or "").lower()
        if source is None:
            return answer({"photos": [], "total": 0})
        found = [place for place in source.order if query in source.keys[place].lower()]
        shown = [[f"data-{place}", source.keys[place]] for place in found[first : first + PAGE]]
        return answer({"photos": shown, "total": len(found)})

    async def drop(self, request: Request) -> Response:
        """Takes in a photo; its clean pass is made, since all that follows asks for it."""
        photo = await self.uploads.take(request)
        return await self._described(request, photo)

    async def answers(self, request: Request) -> Response:
        """Name and label of a photo, and what the network says of it."""
        return await self._described(request, await self._photo(request))

    async def image(self, request: Request) -> Response:
        """The photo as the network sees it."""
        photo = await self._photo(request)
        return await drawn(lambda: pictures.png(self.photos.preprocess.to_pixels(photo.image[0])))

    async def preview(self, request: Request) -> Response:
        """The same, small; nothing of a photo that cannot be read: whoever opens it is told why."""
        try:
            photo = await self._photo(request)
        except RefusedError:
            return Response(status_code=204)
        return await drawn(lambda: pictures.preview(self.photos.preprocess.to_pixels(photo.image[0]), PREVIEW))

    async def maps(self, request: Request) -> Response:
        """The maps of a layer in numbers."""
        photo, layer = await self._photo(request), needed(request, "layer")
        return answer({"maps": await self._ask(request, "maps", partial(self.explorer.maps, photo, layer))})

    async def thumbnails(self, request: Request) -> Response:
        """The maps of a layer in one picture; headers say how large a tile is and how many are in a row."""
        photo, layer = await self._photo(request), needed(request, "layer")

        def draw() -> tuple[bytes, tuple[int, int], int]:
            self.explorer.network.check_layer(layer)
            sheet, tile, side = pictures.thumbnails(self.explorer.clean(photo).maps(layer))
            return pictures.png(sheet), tile, side

        data, tile, side = await self._ask(request, "thumbnails", draw)
        return Response(data, media_type="image/png", headers={"x-tile": f"{tile[0]} {tile[1]} {side}"})

    async def map(self, request: Request) -> Response:
        """One map as heat."""
        values = await self._map(request, "map")
        return await drawn(lambda: pictures.png(pictures.heat(values)))

    async def map_values(self, request: Request) -> Response:
        """One map in numbers."""
        return numbers(await self._map(request, "map values"), "map")

    async def unit(self, request: Request) -> Response:
        """A projection: its facts."""
        return answer((await self._unit(request, "unit")).facts)

    async def unit_picture(self, request: Request) -> Response:
        """A projection: its picture; a header has the facts, so that the page asks once."""
        found = await self._unit(request, "unit")
        made = await drawn(lambda: pictures.png(pictures.projection(found.pixels, found.facts["field"])))
        made.headers["x-facts"] = to_json(found.facts, ascii_only=True)
        return made

    async def unit_values(self, request: Request) -> Response:
        """A projection: its numbers."""
        return numbers((await self._unit(request, "unit values")).pixels, "projection")

    async def probe(self, request: Request) -> Response:
        """What the network says with a square of the photo hidden."""
        photo = await self._photo(request)
        side = max(self.explorer.network.size)
        square = Square(
            number(request, "top", -side, side), number(request, "left", -side, side), number(request, "side", 1, side)
        )
        layer, channel = text(request, "layer"), number(request, "map", 0, MOST, 0)
        work = partial(self.explorer.probe, photo, square, layer, channel)
        return answer(await self._ask(request, "probe", work))

    async def sweep(self, request: Request) -> Response:
        """An occlusion map, piece by piece, as server-sent events."""
        photo, side = await self._photo(request), max(self.explorer.network.size)
        options = SweepOptions(
            number(request, "window", 1, side), number(request, "stride", 1, side),
            number_or_none(request, "target", 0, MOST), text(request, "layer"), number(request, "map", 0, MOST, 0),
        )  # fmt: skip
        return await self.sweeps.stream(photo, options)

    async def winners_of(self, request: Request) -> Response:
        """The gallery's winners of a map."""
        layer, channel = needed(request, "layer"), number(request, "map", 0, MOST)
        if self.winners is None:
            return answer({"winners": None, "tile": None})
        found = await anyio.to_thread.run_sync(self.winners.of, layer, channel)
        return answer({"winners": found, "tile": None if found is None else self.winners.tile(layer)})

    async def winners_strip(self, request: Request) -> Response:
        """The gallery's pictures of a map's winners, beside each other."""
        layer, channel = needed(request, "layer"), number(request, "map", 0, MOST)
        winners = self.winners
        if winners is None:
            raise RefusedError("there is no gallery here", 404)
        return await drawn(lambda: pictures.png(winners.strip(layer, channel)))

    async def _described(self, request: Request, photo: Photo) -> Response:
        best = await self._ask(request, "answers", partial(self.explorer.answers, photo))
        return answer({"photo": photo.id, "name": photo.name, "label": photo.label, "note": photo.note, "best": best})

    async def _photo(self, request: Request) -> Photo:
        try:
            return await anyio.to_thread.run_sync(self.photos.get, request.path_params["photo"])
        except UnreadableImageError as error:
            raise RefusedError(f"the photo cannot be shown: {error}", 415) from error

    async def _map(self, request: Request, kind: str) -> Tensor:
        photo, layer, channel = await self._photo(request), needed(request, "layer"), number(request, "map", 0, MOST)
        return await self._ask(request, kind, partial(self.explorer.map, photo, layer, channel))

    async def _unit(self, request: Request, kind: str) -> Any:
        photo, layer, channel = await self._photo(request), needed(request, "layer"), number(request, "map", 0, MOST)
        row, column = (number_or_none(request, name, 0, MOST) for name in ("row", "column"))
        place = None if row is None or column is None else (row, column)
        return await self._ask(request, kind, partial(self.explorer.unit, photo, layer, channel, place))

    async def _ask(self, request: Request, kind: str, work: Callable[[], Result]) -> Result:
        """Has the worker do something; a newer question of the same kind, tab and pane makes it stale."""
        tab = text(request, "tab")
        return await asyncio.wrap_future(self.worker.ask(work, None if tab is None else f"{kind} {tab}"))


def create_app(
    explorer: Explorer,
    photos: Photos,
    winners: Winners | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 80,
    token: str | None = None,
) -> Guard:
    """The application, ready for a server.

    Args:
        explorer: The network.
        photos: What can be looked at.
        winners: A gallery of the network.
        host: What the server will be bound to.
        port: Its port.
        token: What whoever asks has to know.
    """
    worker = Worker()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(worker.close)

    app = Starlette(
        routes=[*Api(explorer, photos, winners, worker).routes(), *site_files()],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    return Guard(app, host, port, token)


def answer(record: Mapping[str, Any], status: int = 200) -> Response:
    """A record as JSON."""
    return Response(to_json(record), status, media_type="application/json")


async def drawn(draw: Callable[[], bytes]) -> Response:
    """A picture, made outside the event loop."""
    return Response(await anyio.to_thread.run_sync(draw), media_type="image/png")


def numbers(values: Tensor, name: str) -> Response:
    """A tensor as a file of NumPy's."""
    file = BytesIO()
    np.save(file, values.float().cpu().numpy(), allow_pickle=False)
    headers = {"content-disposition": f'attachment; filename="{name}.npy"'}
    return Response(file.getvalue(), media_type="application/octet-stream", headers=headers)


def _problem(status: int) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        return answer({"problem": str(error).removeprefix("serve: ")}, getattr(error, "status", status))

    return handle


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody is there to read this."""
    return Response(status_code=499)


async def _stale(request: Request, error: Exception) -> Response:
    """Nothing, rather than an error: the browser would report one, and the page has asked something newer."""
    return Response(status_code=204)


HANDLERS: dict[Any, Any] = {
    RefusedError: _problem(400),
    UnknownPhotoError: _problem(404),
    StaleError: _stale,
    BusyError: _problem(503),
    ValueError: _problem(400),
    ClientDisconnect: _gone,
}
