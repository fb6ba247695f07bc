"""Start bjoern, cheroot or fastpysgi: `launch.py SERVER MODULE:ATTRIBUTE PORT THREADS`."""

import importlib
import signal
import sys

BACKLOG = 4096
BODY_BYTES_MAX = 2 << 30
CONNECTIONS_MAX = 20000
KEEP_ALIVE_SECONDS = 75


def run_bjoern(application, port, threads):
    import bjoern

    bjoern.run(application, "127.0.0.1", port, listen_backlog=BACKLOG)


def run_cheroot(application, port, threads):
    from cheroot.wsgi import Server

    server = Server(
        ("127.0.0.1", port),
        application,
        numthreads=threads,
        max=threads,
        request_queue_size=BACKLOG,
        timeout=KEEP_ALIVE_SECONDS,
    )
    server.keep_alive_conn_limit = CONNECTIONS_MAX
    server.safe_start()


def run_fastpysgi(application, port, threads):
    import fastpysgi

    fastpysgi.server.backlog = BACKLOG
    fastpysgi.server.max_content_length = BODY_BYTES_MAX
    fastpysgi.run(application, "127.0.0.1", port)


RUN = {"bjoern": run_bjoern, "cheroot": run_cheroot, "fastpysgi": run_fastpysgi}


def main():
    server, target, port, threads = sys.argv[1:]
    module, _, attribute = target.partition(":")
    application = getattr(importlib.import_module(module), attribute)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    RUN[server](application, int(port), int(threads))


main()
