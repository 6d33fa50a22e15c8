"""Photos that are dropped on the page: taken in up to a size, a few at a time."""

from __future__ import annotations

from urllib.parse import unquote

import anyio
from starlette.requests import Request

from zfkernels.data.source import UnreadableImageError
from zfkernels.serve.arguments import RefusedError
from zfkernels.serve.photos import Photo, Photos

MAX_BYTES = 32 << 20
AT_ONCE = 2  # files that are held and decoded at the same time
SECONDS = 30  # that a file may take to arrive


class Uploads:
    """Takes in photos.

    Args:
        photos: Where they go.
        max_bytes: Of a file.
    """

    def __init__(self, photos: Photos, max_bytes: int = MAX_BYTES) -> None:
        self.photos, self.max_bytes = photos, max_bytes
        self._places = anyio.Semaphore(AT_ONCE)

    async def take(self, request: Request) -> Photo:
        """The photo that is the body of a request; the header X-Name says how its file was called.

        Raises:
            RefusedError: It is too large (413), too slow (408) or no picture that can be used (415).
        """
        said = request.headers.get("content-length", "")
        if said.isdecimal() and (len(said) > 15 or int(said) > self.max_bytes):
            raise self._too_large()
        name = unquote(request.headers.get("x-name", ""))
        async with self._places:
            data = await self._body(request)
            try:
                return await anyio.to_thread.run_sync(self.photos.drop, data, name)
            except UnreadableImageError as error:
                raise RefusedError(f"{name or 'the file'} cannot be shown: {error}", 415) from error

    async def _body(self, request: Request) -> bytes:
        data = bytearray()
        try:
            with anyio.fail_after(SECONDS):
                async for part in request.stream():
                    data += part
                    if len(data) > self.max_bytes:
                        raise self._too_large()
        except TimeoutError as error:
            raise RefusedError(f"the file did not arrive within {SECONDS} seconds", 408) from error
        return bytes(data)

    def _too_large(self) -> RefusedError:
        return RefusedError(f"the file is larger than {self.max_bytes >> 20} MiB", 413)
