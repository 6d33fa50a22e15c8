"""The server: bound to an address, until it is interrupted."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zfkernels._extras import require
from zfkernels.serve.guard import is_local

if TYPE_CHECKING:
    from zfkernels.serve.explorer import Explorer
    from zfkernels.serve.photos import Photos
    from zfkernels.serve.winners import Winners

PORT = 8813


def serve(
    explorer: Explorer,
    photos: Photos,
    winners: Winners | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    ready: Callable[[str], Any] = print,
) -> None:
    """Serves the page until the process is interrupted.

    Args:
        explorer: The network.
        photos: What can be looked at.
        winners: A gallery of the network.
        host: Name or address to be bound to. Elsewhere than on this machine's own, a token is drawn and asked for.
        port: 0: any that is free.
        ready: Called with the page's address as soon as it answers.

    Raises:
        ImportError: uvicorn or starlette is not installed.
        OSError: The port is in use, or the host is none of this machine's.
    """
    uvicorn = require("uvicorn", "serve")
    from zfkernels.serve.app import create_app

    listening = bind(host, port)
    with listening:
        port = listening.getsockname()[1]
        token = None if is_local(host) else secrets.token_urlsafe(24)
        app = create_app(explorer, photos, winners, host=host, port=port, token=token)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1,
            proxy_headers=False,
        )  # fmt: skip
        everywhere = host in ("0.0.0.0", "::")
        shown = socket.gethostname() if everywhere else f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{port}/" + ("" if token is None else f"?token={token}"))
        uvicorn.Server(config).run(sockets=[listening])


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OSError: The port is in use, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(f"serve: expected port one that is free, got {port}, which is in use") from error
        reason = str(error.strerror).partition(" (while")[0]  # create_server's own words name the address again
        raise OSError(f"serve: expected host and port that can be bound to, got {host}:{port} ({reason})") from error
