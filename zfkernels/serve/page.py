"""The page and its files: a fixed list, read once; nothing of a request becomes a path."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SCRIPT, STYLE = "text/javascript", "text/css"
# By address: package, file, type. What the gallery's page and this one have in common stands in the gallery's folder.
FILES = {
    "/": ("serve", "index.html", "text/html"),
    "/favicon.ico": ("serve", "icon.svg", "image/svg+xml"),
    "/site/base.css": ("gallery", "style.css", STYLE),
    "/site/picture.js": ("gallery", "picture.js", SCRIPT),
    "/site/theme.js": ("gallery", "theme.js", SCRIPT),
    "/site/style.css": ("serve", "style.css", STYLE),
    **{
        f"/site/{name}.js": ("serve", f"{name}.js", SCRIPT)
        for name in ("main", "server", "address", "layers", "maps", "pane", "square", "sweep", "photos", "winners")
    },
}


def site_files() -> list[Route]:
    """A route for each file of the page."""
    return [
        Route(address, _give((files(f"zfkernels.{package}") / "site" / name).read_bytes(), kind))
        for address, (package, name, kind) in FILES.items()
    ]


def _give(data: bytes, kind: str) -> Callable[[Request], Response]:
    def give(request: Request) -> Response:
        return Response(data, media_type=kind)

    return give
