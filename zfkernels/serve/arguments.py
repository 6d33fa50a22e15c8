"""What a request says, as numbers in their ranges."""

from __future__ import annotations

from starlette.requests import Request

LONGEST = 400  # characters of a value


class RefusedError(Exception):
    """A request that is not answered; the message is what the page says, the status HTTP's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def text(request: Request, name: str) -> str | None:
    """A value of the address, None where there is none.

    Raises:
        RefusedError: It is very long.
    """
    value = request.query_params.get(name)
    if value is not None and len(value) > LONGEST:
        raise RefusedError(f"expected {name} of at most {LONGEST} characters, got {len(value)}")
    return value


def needed(request: Request, name: str) -> str:
    """A value of the address.

    Raises:
        RefusedError: There is none, or it is very long.
    """
    value = text(request, name)
    if value is None:
        raise RefusedError(f"expected {name} in the address, got none")
    return value


def number(request: Request, name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number of the address, from ``low`` to ``high``.

    Raises:
        RefusedError: It is none, or there is none and no default.
    """
    value = text(request, name)
    if value is None and default is not None:
        return default
    found = None if value is None else _whole(value)
    if found is None or not low <= found <= high:
        raise RefusedError(f"expected {name} a whole number from {low} to {high}, got {value!r}")
    return found


def number_or_none(request: Request, name: str, low: int, high: int) -> int | None:
    """The same, None where the address has none."""
    return None if text(request, name) is None else number(request, name, low, high)


def _whole(value: str) -> int | None:
    digits = value.removeprefix("-")
    return int(value) if digits.isascii() and digits.isdigit() and len(digits) <= 12 else None
