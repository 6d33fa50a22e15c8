"""Which arrays a store has of each image, and which of all: found on the first image, the same for the others."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zfkernels.output import to_json, write_whole
from zfkernels.store.contents import Contents, Named
from zfkernels.store.formats import Variable

FILE = "layout.npz"


@dataclass(frozen=True, eq=False)
class Layout:
    """The form of a store.

    Attributes:
        variables: Of each image, by name.
        shared: Arrays of all images, with the names of their dimensions.
        coordinates: Names of the places along dimensions.
    """

    variables: Mapping[str, Variable]
    shared: Named
    coordinates: Mapping[str, Sequence[Any]]

    @classmethod
    def of(cls, found: Contents) -> Layout:
        variables = {name: Variable.of(dims, array) for name, (dims, array) in found.own.items()}
        return cls(variables, found.shared, found.coordinates)

    def __eq__(self, other: object) -> bool:
        if (
            not isinstance(other, Layout)
            or self.variables != other.variables
            or list(self.shared) != list(other.shared)
        ):
            return False
        return all(np.array_equal(array, other.shared[name][1]) for name, (_, array) in self.shared.items())

    def words(self) -> str:
        """The size of the drop."""
        return " x ".join(map(str, self.variables["drop"].shape))

    def record(self) -> dict[str, Any]:
        """All but the shared arrays, as JSON has it."""
        return {
            "variables": {name: dataclasses.asdict(kept) for name, kept in self.variables.items()},
            "shared": {name: list(dims) for name, (dims, _) in self.shared.items()},
            "coordinates": {name: list(values) for name, values in self.coordinates.items()},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Layout:
        """Of what ``record`` returned.

        Raises:
            KeyError, TypeError: It is of another form.
        """
        variables = {
            name: Variable(tuple(kept["dims"]), tuple(kept["shape"]), kept["dtype"])
            for name, kept in record["variables"].items()
        }
        shared = {name: (tuple(dims), arrays[name]) for name, dims in record["shared"].items()}
        return cls(variables, shared, record["coordinates"])

    def save(self, folder: Path) -> None:
        """Writes it to the state, whole."""
        file = io.BytesIO()
        record = np.frombuffer(to_json(self.record()).encode(), np.uint8)
        arrays = {name: array for name, (_, array) in self.shared.items()}
        np.savez_compressed(file, allow_pickle=False, **{"layout.json": record}, **arrays)
        write_whole(folder / FILE, file.getvalue())

    @classmethod
    def load(cls, folder: Path) -> Layout | None:
        """What was saved; None before that."""
        if not (folder / FILE).exists():
            return None
        with np.load(folder / FILE, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return cls.from_record(json.loads(arrays.pop("layout.json").tobytes()), arrays)
