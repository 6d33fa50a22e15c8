"""What is kept in memory: the values used last, as many as a budget in bytes allows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Budget(Generic[Value]):
    """Values by key, up to ``limit`` bytes together; those that were used longest ago go first. Safe in threads.

    The latest value stays even where it alone is larger than the limit.

    Args:
        limit: Bytes, at least 1.

    Attributes:
        used: Bytes of what is held.

    Raises:
        ValueError: A limit below 1.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"Budget: expected limit at least 1 byte, got {limit}")
        self.limit, self.used = limit, 0
        self._held: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str) -> Value | None:
        """The value of ``key``, which is the one used last from now on; None if it is not held."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def put(self, key: str, value: Value, size: int) -> None:
        """Keeps a value of ``size`` bytes, and lets others go until the limit holds."""
        with self._lock:
            _, replaced = self._held.pop(key, (None, 0))
            self._held[key] = value, size
            self.used += size - replaced
            while self.used > self.limit and len(self._held) > 1:
                _, (_, gone) = self._held.popitem(last=False)
                self.used -= gone
