"""Triton's interpreter before 3.7 under NumPy 2.4 and newer: loops whose bounds are known at run time only."""

from __future__ import annotations

from typing import Any

import triton


def mend() -> None:
    """Lets a number of a kernel bound a loop, whatever NumPy there is.

    The interpreter keeps such a number as an array with one element, and before Triton 3.7 hands it to ``int``, which
    newer NumPy refuses.
    """
    if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 7):
        return
    from triton.runtime import interpreter

    original = interpreter._patch_lang_tensor

    def patch(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patch
