"""prometheus_client's metrics by the slots of Portico's workers, which never grow in number.

``use_slots()`` does what ``--prometheus-slots`` does. It must come before the first metric is made: in a
module that the application imports first, or in a hook.
"""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import mmap_key

from portico import _portico

__all__ = ["use_slots"]

_FOLDERS = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


class SlotValue:
    """A value of a metric in this worker's slot of shared memory."""

    _multiprocess = True

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: list[str],
        labelvalues: list[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        key = f"{typ}\n{multiprocess_mode}\n{mmap_key(metric_name, name, labelnames, labelvalues, help_text)}"
        is_live = multiprocess_mode.startswith("live")
        value = _portico.MetricValue.kept(key, metric_name, typ == "gauge", is_live)
        self.inc, self.set, self.get = value.inc, value.set, value.get

    def set_exemplar(self, exemplar: Any) -> None:
        """As prometheus_client with several processes: there are none."""

    def get_exemplar(self) -> None:
        """None."""
        return None


def use_slots() -> None:
    """Has prometheus_client keep the metrics that are made from now on by slot, and not by process.

    In files where PROMETHEUS_MULTIPROC_DIR is set: they hold the slot in their name, so that the next worker
    in it goes on with them. Else in shared memory, where ``portico metrics`` reads them.
    """
    if any(folder in os.environ for folder in _FOLDERS):
        by_process: Any = values.MultiProcessValue  # Which has no types.
        values.ValueClass = by_process(process_identifier=_identifier)
        return
    if values.ValueClass is not SlotValue:
        os.register_at_fork(after_in_child=_portico.leave_slot)
        values.ValueClass = SlotValue


def _identifier() -> int | str:
    """The slot; beside workers, such as in a template, the process."""
    slot = _portico.worker_slot()
    return f"process{os.getpid()}" if slot is None else slot
