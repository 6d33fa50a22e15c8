"""What a process does to the files under a folder, step by step, so that a test can end or fail it at any one.

A step is: to open a file for writing, to have opened it (it is empty then), to rename, remove or make something, to
flush, to reserve or to write in place. Python's audit events report all of them but the last ones and flushing, whoever
asks for them. They cannot be taken back: watch in a fork.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
NEEDS_NO_SPACE = ("os.remove", "os.rmdir")


def watch(folder: Path, act: Callable[[str, str], None]) -> None:
    """Calls ``act`` with the kind and the path of each step of this process, before it is taken, from now on."""

    def inside(path: object) -> str | None:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        if not isinstance(path, (str, os.PathLike)):
            return None
        relative = os.path.relpath(path, folder)
        return None if relative.startswith("..") else relative

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if opens or event in ("os.rename", "os.mkdir"):
            path = inside(arguments[0])
        elif event in NEEDS_NO_SPACE:  # in a folder that is already open, a name without its path
            path = str(arguments[0]) if arguments[-1] != -1 else inside(arguments[0])
        else:
            return
        if path is not None:
            act(event, path)

    def before(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(handle: int, *arguments: Any) -> Any:
            path = inside(handle)
            if path is not None:
                act(f"os.{name}", path)
            return original(handle, *arguments)

        setattr(owner, name, call)

    original_open = io.open

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        handle = original_open(file, mode, *arguments, **options)
        if "r" not in mode and (path := inside(file)) is not None:
            act("opened", path)
        return handle

    for name in ("fsync", "pwrite", "posix_fallocate"):
        before(os, name)
    io.open = builtins.open = opened
    sys.addaudithook(hook)


class Clock:
    """Counts steps; the n-th is the last of the process, or from the n-th on its disk is full."""

    def __init__(self, last: int | None, ending: str) -> None:
        self.last, self.ending, self.taken = last, ending, []

    def __call__(self, kind: str, path: str) -> None:
        self.taken.append(f"{kind} {path}")
        if self.last is None or len(self.taken) < self.last:
            return
        if self.ending == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind not in NEEDS_NO_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
