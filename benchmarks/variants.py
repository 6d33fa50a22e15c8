"""The contenders of an op's race: all its variants that can run here, then what a user of PyTorch would write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from rounds import Contender, Race, run_race

from zfkernels.ops import registered

LAST = "-channels_last"
EAGER = ("eager-nchw", f"eager{LAST}", "compile")


def contenders(op: str) -> list[str]:
    """The variants of an op that run on this machine, the native ones in both memory formats, and the baselines."""
    names = [name for name, variant in registered()[op].variants.items() if variant.missing() is None]
    return [*names, *(f"{name}{LAST}" for name in names if name != "reference"), *EAGER]


def window_contenders(op: str) -> list[str]:
    """As :func:`contenders`, for windows, which are channels last always."""
    return [name for name in contenders(op) if name in EAGER or not name.endswith(LAST)]


def race_variants(
    call: Callable[[Any, str], Any],
    eager: Callable[[Any], Any],
    make_input: Callable[[int], Any],
    *,
    names: Sequence[str],
    same: bool = True,
    rounds: int = 7,
    floors: Mapping[str, Contender] | None = None,
) -> Race:
    """Races the variants of an op against eager and compiled PyTorch.

    Args:
        call: runs the op on an input, with the variant of a name.
        eager: what PyTorch offers for it, in the input's memory format.
        make_input: input of a round, a dictionary of tensors, contiguous.
        names: who takes part.
        same: whether ``eager`` computes the same numbers.
        rounds: timed rounds.
        floors: by name, what is timed beside them without being the op, such as writing its output; takes the
            input's dictionary.
    """
    compiled = torch.compile(eager, dynamic=False)
    plain: dict[str, Contender] = {
        "eager-nchw": lambda given: eager(given["nchw"]),
        f"eager{LAST}": lambda given: eager(given["last"]),
        "compile": lambda given: compiled(given["last"]),
    }

    def variant(name: str) -> Contender:
        form = "last" if name.endswith(LAST) else "nchw"
        return lambda given: call(given[form], name.removesuffix(LAST))

    def floor(contender: Contender) -> Contender:
        return lambda given: contender(given["nchw"])

    runners = {name: plain.get(name) or variant(name) for name in names}
    runners |= {name: floor(contender) for name, contender in (floors or {}).items()}

    def both(turn: int) -> dict[str, Any]:
        given = make_input(turn)
        return {"nchw": given, "last": _as_channels_last(given)}

    def check(name: str, result: Any, expected: Any) -> None:
        if name not in names or (name in EAGER and not same):
            return
        if isinstance(result, tuple):  # values, and switches or PyTorch's indices
            assert name in EAGER or torch.equal(result[1], expected[1]), name
            result, expected = result[0], expected[0]
        assert (result - expected).abs().max() <= 1e-4 * expected.abs().max(), name

    with torch.inference_mode():
        return run_race(runners, both, check, rounds)


def _as_channels_last(given: Mapping[str, Any]) -> dict[str, Any]:
    def last(value: Any) -> Any:
        maps = isinstance(value, torch.Tensor) and value.dim() == 4
        return value.contiguous(memory_format=torch.channels_last) if maps else value

    return {name: last(value) for name, value in given.items()}
