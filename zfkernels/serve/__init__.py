"""The explorer: a local page on which a person looks at one network, photo by photo.

From below to above: ``network`` (loaded once) and ``photos``; ``budget`` (what is kept in memory) and ``worker`` (one
thread computes, newest request first); ``explorer`` and ``sweep``, the questions; ``pictures``; ``app``, ``guard`` and
``uploads``, the web application; ``run``, the server; and ``site/``, the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zfkernels.serve.app import create_app
    from zfkernels.serve.explorer import Explorer
    from zfkernels.serve.run import serve

_HOME = {"Explorer": "explorer", "create_app": "app", "serve": "run"}

__all__ = ["Explorer", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'zfkernels.serve' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"zfkernels.serve.{_HOME[name]}"), name)
