"""An application with about 200 MB of module data, in some 2 million objects, as a model or a catalogue is.

Each request reads a thousand rows of the same small part: what is read is copied into the worker, since
reading an object writes its reference count. No server can change that; it can see that nothing else is.
"""

import itertools

from apps import answer

ROWS = [{"number": number, "name": f"row {number}"} for number in range(700_000)]
OFTEN_READ = 20_000
TURNS = itertools.count()


def application(environ, start_response):
    first = next(TURNS) * 1009 % (OFTEN_READ - 1000)
    total = sum(len(row["name"]) for row in ROWS[first : first + 1000])
    return answer(start_response, b"%13d" % total)
