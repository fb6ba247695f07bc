"""What `apps.inputs` does with its body at /operations, done with a file of the same content."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence


def read_like_a_file(body: bytes, operations: Iterable[Sequence]) -> list:
    """The results of these operations, as the application sends them."""
    stream, results = io.BytesIO(body), []
    for name, *arguments in operations:
        if name == "iterate":
            result = list(itertools.islice(stream, *arguments or [None]))
        elif name == "next":
            result = next(stream, b"<end>")
        else:
            result = getattr(stream, name)(*arguments)
        many = isinstance(result, list)
        results.append([item.decode("latin-1") for item in result] if many else result.decode("latin-1"))
    return results
