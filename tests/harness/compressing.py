"""What the tests of apps/compressing.py and that application share."""

from __future__ import annotations

from urllib.parse import urlencode


def text(length: int) -> bytes:
    """So many bytes that compress well."""
    return (b"".join(b"%d bottles of beer on the wall\n" % number for number in range(length // 20 + 1)))[
        :length
    ]


def target(path: str, **asked) -> str:
    """A request's target; names of fields begin with `h_`, in which `_` stands for `-`."""
    named = {
        f"h.{name[2:].replace('_', '-')}" if name.startswith("h_") else name: value
        for name, value in asked.items()
    }
    return f"{path}?{urlencode(named)}"
