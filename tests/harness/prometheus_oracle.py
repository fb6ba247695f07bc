"""What prometheus_client itself makes of the same changes, in files: a program of tests.

Reads a list of events as JSON from its standard input, does them with `apps.counted`, and prints the samples
that `MultiProcessCollector` finds then.
"""

from __future__ import annotations

import json
import os
import sys

from prometheus_client import values

current = [0]
values.ValueClass = values.MultiProcessValue(process_identifier=lambda: current[0])


def main() -> None:
    """Does the events, one after the other."""
    from prometheus_client import CollectorRegistry, multiprocess

    from apps import counted

    for event, slot, number in json.load(sys.stdin):
        if event == "dies":
            multiprocess.mark_process_dead(slot)
            continue
        current[0] = slot
        if event == "starts":
            counted.imported.set(7)
        elif event == "changes":
            counted.change(number)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    samples = [
        [sample.name, sorted(sample.labels.items()), sample.value]
        for metric in registry.collect()
        for sample in metric.samples
    ]
    json.dump(samples, sys.stdout)


if __name__ == "__main__":
    sys.path.insert(0, os.environ["TESTS"])
    main()
