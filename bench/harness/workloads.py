"""Every workload: which application, how many threads and connections, how it is measured, what is shown."""

from collections.abc import Callable
from dataclasses import dataclass, field

from .bulk import measure_download, measure_slow_clients, measure_upload
from .lifecycle import (
    BIMODAL_RATE,
    LIFECYCLE_RATE,
    measure_bimodal,
    measure_evenness,
    measure_preload,
    measure_recycle,
    measure_reload,
)
from .load import BROWSER_HEADERS, measure_mixed, measure_wrk
from .probes import HELD_TARGET, measure_idle, measure_silent, measure_stream_lag

THREADS = 4
HELLO_BYTES = 13
TEN_KILOBYTES = 10240


@dataclass(frozen=True)
class Column:
    """One column of a table; `kind` chooses the format."""

    key: str
    title: str
    kind: str  # microseconds, rate, seconds, bytes, count, share


CPU = Column("cpu_microseconds", "CPU us/request", "microseconds")
RATE = Column("rate", "requests/s", "rate")
P50 = Column("p50", "p50", "seconds")
P99 = Column("p99", "p99", "seconds")
ERRORS = Column("errors", "errors", "count")
KEPT = Column("kept", "kept", "count")
PSS = Column("pss", "PSS", "bytes")
GROWTH = Column("growth", "memory growth", "bytes")
LOAD_COLUMNS = (CPU, RATE, P50, P99, ERRORS, KEPT, PSS)
FAST_COLUMNS = (
    Column("fast_p50", "p50 of the fast", "seconds"),
    Column("fast_p99", "p99 of the fast", "seconds"),
)
LAG_COLUMNS = (
    P50,
    P99,
    Column("worst", "worst", "seconds"),
    Column("late", "later than 1 ms", "share"),
    Column("blocks_at_once", "blocks seen at once", "count"),
    ERRORS,
)
HELD_COLUMNS = (
    Column("held", "held", "count"),
    Column("bytes_each", "memory each", "bytes"),
    Column("p50", "new request p50", "seconds"),
    Column("p99", "new request p99", "seconds"),
    ERRORS,
    Column("not_accepted", "left in the backlog", "count"),
    PSS,
)
BULK_COLUMNS = (
    GROWTH,
    Column("seconds", "time", "seconds"),
    Column("cpu_seconds", "CPU", "seconds"),
    ERRORS,
    Column("bytes_missing", "bytes missing", "bytes"),
)
SLOW_COLUMNS = (
    Column("before_p50", "p50 before", "seconds"),
    Column("during_p50", "p50 during", "seconds"),
    Column("before_p99", "p99 before", "seconds"),
    Column("during_p99", "p99 during", "seconds"),
    Column("slow_alive", "slow clients held", "count"),
    GROWTH,
    ERRORS,
)
LIFECYCLE_COLUMNS = (
    Column("failed", "failed requests", "count"),
    Column("unannounced", "closed unannounced", "count"),
    Column("requests", "requests", "count"),
    Column("replaced", "workers replaced", "count"),
    P50,
    P99,
    Column("worst", "worst", "seconds"),
    Column("reasons", "how they failed", "text"),
)
BIMODAL_COLUMNS = (
    *FAST_COLUMNS,
    P50,
    Column("p90", "p90", "seconds"),
    P99,
    Column("worst", "worst", "seconds"),
    RATE,
    ERRORS,
)
PRELOAD_COLUMNS = (
    Column("pss", "PSS of all", "bytes"),
    Column("share", "over the largest process' RSS", "ratio"),
    Column("requests", "requests", "count"),
    ERRORS,
)
EVEN_COLUMNS = (
    Column("max_over_mean", "busiest worker over the mean", "ratio"),
    Column("requests", "connections", "count"),
    ERRORS,
)


@dataclass(frozen=True)
class Workload:
    """One workload. `ratio` names the column whose ratio to Portico is shown."""

    name: str
    title: str
    app: str
    measure: Callable = measure_wrk
    columns: tuple[Column, ...] = LOAD_COLUMNS
    ratio: str = "cpu_microseconds"
    threads: int = THREADS
    connections: int = 64
    path: str = "/"
    headers: dict[str, str] = field(default_factory=dict)
    script: str = "report.lua"
    body_bytes: int = 0
    access_log: bool = False
    rate_min: float = 0.0  # below it the server "cannot": it runs the requests one after the other
    rounds_max: int | None = None
    phases: int = 1  # how many times the measured seconds one cell takes
    overhead_seconds: float = 1.1  # of one cell beyond them: start, warm-up, stop
    floor: bool = False  # whether the bare loop takes part
    default: bool = True
    workers: int = 1
    players: dict[str, tuple[str, ...]] | None = (
        None  # who takes part, with options of its own; None: everyone
    )


WORKLOADS = (
    Workload("hello", "Hello, world", "apps:hello", body_bytes=HELLO_BYTES, floor=True),
    Workload("access-log", "Hello, world with the access log on, to a file", "apps:hello",
             body_bytes=HELLO_BYTES, access_log=True),
    Workload("browser", "Hello, world with a browser's headers", "apps:hello", headers=BROWSER_HEADERS,
             body_bytes=HELLO_BYTES, floor=True),
    Workload("10k", "Answer of 10 KB", "apps:ten_kilobytes", body_bytes=TEN_KILOBYTES),
    Workload("echo", "POST of 10 KB, read and sent back", "apps:echo", script="post.lua",
             body_bytes=TEN_KILOBYTES),
    Workload("stream", "Stream of 20 blocks of 512 bytes", "apps:stream", body_bytes=TEN_KILOBYTES),
    Workload("sleep", "Sleep of 10 ms, 64 threads, 64 connections (6,400/s would be ideal)",
             "apps:sleep_10ms", threads=64, body_bytes=HELLO_BYTES, rate_min=640),
    Workload("mixed", "Nine fast and one of 100 ms, 16 threads, 64 connections (1,600/s would be ideal)",
             "apps:mixed", measure_mixed, LOAD_COLUMNS[:4] + FAST_COLUMNS + LOAD_COLUMNS[4:], threads=16,
             rate_min=160),
    Workload("compute", "1 ms of Python", "apps:compute_1ms", body_bytes=HELLO_BYTES),
    Workload("flask", "Flask: a route and a small JSON answer", "flask_page:application", body_bytes=40),
    Workload("django", "Django: the usual middleware and a small page", "django_page:application",
             body_bytes=50),
    Workload("stream-lag", "Lag of a streamed block while the next one takes 5 ms of Python",
             "apps:stamped_stream", measure_stream_lag, LAG_COLUMNS, "p99", rounds_max=1),
    Workload("idle", "10,000 idle keep-alive connections", "apps:hello", measure_idle, HELD_COLUMNS,
             "bytes_each", connections=HELD_TARGET, rounds_max=1, phases=2, overhead_seconds=3),
    Workload("silent", "10,000 silent connections", "apps:hello", measure_silent, HELD_COLUMNS,
             "bytes_each", connections=HELD_TARGET, rounds_max=1, phases=2, overhead_seconds=3),
    Workload("upload", "Upload of 1 GiB, read in blocks of 64 KiB", "apps:bulk", measure_upload,
             BULK_COLUMNS, "growth", rounds_max=1, default=False),
    Workload("download", "Streamed download of 1 GiB", "apps:bulk", measure_download, BULK_COLUMNS,
             "growth", rounds_max=1, default=False),
    Workload("slow-clients", "500 clients uploading at 2 KB/s and 500 reading at 10 KB/s", "apps:bulk",
             measure_slow_clients, SLOW_COLUMNS, "during_p99", connections=1000, rounds_max=1,
             phases=2, overhead_seconds=3, default=False),
    Workload("reload", f"Reload every 2 s under {LIFECYCLE_RATE} requests/s, 4 workers of 4 threads",
             "apps:hello", measure_reload, LIFECYCLE_COLUMNS, "failed", workers=4, rounds_max=1,
             players={"portico": (), "gunicorn-gthread": (), "granian": ()}, default=False),
    Workload("recycle", f"Recycle after 50 requests, 3 s of import, {LIFECYCLE_RATE} requests/s, 4 workers",
             "slow_import:application", measure_recycle, LIFECYCLE_COLUMNS, "failed", workers=4, rounds_max=1,
             players={"portico": ("--max-requests", "50"),
                      "gunicorn-gthread": ("--max-requests", "50", "--max-requests-jitter", "5"),
                      "granian": ("--workers-lifetime", "60", "--respawn-failed-workers")}, default=False),
    Workload("bimodal", f"5 % of 200 ms among 1 ms, {BIMODAL_RATE} requests/s (70 %), 4 workers of 2 threads",
             "apps:bimodal", measure_bimodal, BIMODAL_COLUMNS, "fast_p99", threads=2, connections=32,
             workers=4, players={"portico": (), "gunicorn-gthread": (), "granian": ()}, default=False),
    Workload("preload", "200 MB of module data, 4 workers, after 10,000 requests", "big_module:application",
             measure_preload, PRELOAD_COLUMNS, "share", workers=4, rounds_max=1,
             players={"portico": ("--preload",), "gunicorn-gthread": ("--preload",), "granian": ()},
             default=False),
    Workload("even", "5,000 new connections, 4 workers of 4 threads", "apps:process", measure_evenness,
             EVEN_COLUMNS, "max_over_mean", workers=4, rounds_max=1,
             players={"portico": (), "gunicorn-gthread": (), "granian": ()}, default=False),
)  # fmt: skip
BY_NAME = {workload.name: workload for workload in WORKLOADS}
