"""State dicts as people save them: inside a checkpoint, under names that wrappers have added to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

HOLDERS = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "params")
PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")  # of DataParallel, Lightning, torch.compile, …


def inner_state(saved: Any) -> Any:
    """The state dict in a checkpoint: what stands under a name such as "state_dict" or "model", however deep; anything
    else as it is."""
    inner = saved
    while inner is not None:
        saved = inner
        held = (saved.get(name) for name in HOLDERS) if isinstance(saved, Mapping) else ()
        inner = next((value for value in held if isinstance(value, Mapping)), None)
    return saved


def without_prefixes(state: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """A state dict without the prefixes of wrappers that all of its names have and the network's have not."""
    state = dict(state)
    while state and not any(key in expected for key in state):
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
