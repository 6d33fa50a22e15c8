"""How names are shown, and which files are passed over because of theirs."""

from __future__ import annotations

import re

MAX_NAME = 4096  # characters of a path; no file system has longer ones
# What moves a terminal's cursor, breaks a line or turns the direction of the text around it.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # others stand for bytes that are no text


def printable(text: str) -> str:
    """Text from a file (a name, a label, a reason) as it may be shown: control characters and stray bytes escaped."""
    text = _LONE_SURROGATE.sub(_escape, text)
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _UNSAFE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over, with all that lies in it."""
    return name.startswith(".") or name == "__MACOSX"
