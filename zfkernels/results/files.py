"""Results on disk: one safetensors file, the tensors as they are and the rest as JSON in its header; no pickle."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zfkernels.output import replacing

FORMAT = "zfkernels result 1"
SUFFIX = ".safetensors"


def write(result: Any, path: str | os.PathLike[str]) -> None:
    """Writes a result whole or not at all: to a file beside ``path`` first, which then takes its place.

    Raises:
        ValueError: another suffix than ``.safetensors``.
        TypeError: a result that holds something else than tensors, plain values, tuples, mappings and results.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"save: expected path of a {SUFFIX} file, got {path}")
    tensors: dict[str, Tensor] = {}
    content = _pack(result, "result", tensors)
    with replacing(path) as partial:
        save_file(tensors, partial, {"format": FORMAT, "content": json.dumps(content)})


def read(path: str | os.PathLike[str], kinds: Mapping[str, type]) -> Any:
    """The result that :func:`write` wrote; ``kinds``: the classes that may be in it, by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no result of this package.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"load: expected path of an existing file, got {path}")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"load: expected path of a result that was saved, got {path} ({error})") from error
    if header.get("format") != FORMAT:
        raise ValueError(f"load: expected path of a file of the format {FORMAT!r}, got {path}")
    return _unpack(json.loads(header["content"]), tensors, kinds)


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()  # no two tensors of a file may share memory
        return {"tensor": name}
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_pack(part, f"{name}.{n}", tensors) for n, part in enumerate(value)]}
    if isinstance(value, Mapping):
        return {"mapping": [[key, _pack(part, f"{name}.{key}", tensors)] for key, part in value.items()]}
    if dataclasses.is_dataclass(value):
        fields = {
            field.name: _pack(getattr(value, field.name), f"{name}.{field.name}", tensors)
            for field in dataclasses.fields(value)
        }
        return {"kind": type(value).__name__, "fields": fields}
    raise TypeError(f"save: expected {name} a tensor or a plain value, got {type(value).__name__}")


def _unpack(value: Any, tensors: Mapping[str, Tensor], kinds: Mapping[str, type]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "mapping" in value:
        return {key: _unpack(part, tensors, kinds) for key, part in value["mapping"]}
    for kind, make in (("tuple", tuple), ("list", list)):
        if kind in value:
            return make(_unpack(part, tensors, kinds) for part in value[kind])
    if value.get("kind") not in kinds:
        raise ValueError(f"load: expected a result of this version's kinds, got {value.get('kind')!r}")
    return kinds[value["kind"]](**{name: _unpack(part, tensors, kinds) for name, part in value["fields"].items()})


def same(a: Any, b: Any) -> bool:
    """Whether two values of results are equal: tensors to the bit and wherever they are, NaN equal to NaN."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype):
            return False
        a, b = a.detach().cpu(), b.detach().cpu()
        return bool(((a == b) | ((a != a) & (b != b))).all())
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))
    return bool(a == b or (a != a and b != b))


def as_array(tensor: Tensor) -> Any:
    """A NumPy array; bfloat16, which NumPy lacks, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
