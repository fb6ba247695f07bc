"""An application with about 200 MB of module data, in some 2 million objects. Each request reads a few."""

import itertools

from apps import answer

ROWS = [{"number": number, "name": f"row {number}"} for number in range(700_000)]
TURNS = itertools.count()


def application(environ, start_response):
    """Touch a thousand rows, so that their reference counts are written."""
    first = next(TURNS) * 1009 % (len(ROWS) - 1000)
    total = sum(len(row["name"]) for row in ROWS[first : first + 1000])
    return answer(start_response, b"%13d" % total)
