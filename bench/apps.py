"""The applications of the benchmark: the same objects for every server.

`BENCH_SPINS`, set by the harness, is the number of loop turns that cost 1 ms of CPU on this machine; it is
measured once per run, so every server gets the same work.
"""

import os
import time

BLOCK = b"x" * 512
TEN_KILOBYTES = b"x" * 10240
MEGABYTE = b"x" * (1 << 20)
SLOW_READ = b"x" * (256 << 10)
STREAM_BLOCKS = 20
COMPUTE_NANOSECONDS = 5_000_000
DOWNLOAD_BYTES = 1 << 30
SPINS = int(os.environ.get("BENCH_SPINS", "20000"))


def answer(start_response, body):
    """Answer 200 with one block and its length."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world!"]


def ten_kilobytes(environ, start_response):
    return answer(start_response, TEN_KILOBYTES)


def echo(environ, start_response):
    """Read the body and send it back."""
    return answer(start_response, environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))


def stream(environ, start_response):
    """Stream 20 blocks of 512 bytes of unannounced length."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (BLOCK for _ in range(STREAM_BLOCKS))


def stamped_blocks():
    """Yield blocks that carry the time of their yield, and compute 5 ms before each next one."""
    for _ in range(STREAM_BLOCKS):
        stamp = time.monotonic_ns()
        yield b"%020d\n" % stamp
        while time.monotonic_ns() < stamp + COMPUTE_NANOSECONDS:
            pass


def stamped_stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return stamped_blocks()


def sleep_10ms(environ, start_response):
    time.sleep(0.010)
    return hello(environ, start_response)


def mixed(environ, start_response):
    """Sleep 100 ms for /slow, answer everything else at once."""
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.100)
    return hello(environ, start_response)


def spin(turns):
    """Burn CPU holding the interpreter, as an application's own Python does."""
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


def compute_1ms(environ, start_response):
    spin(SPINS)
    return hello(environ, start_response)


def compute_200us(environ, start_response):
    spin(SPINS // 5)
    return hello(environ, start_response)


def compute_500us(environ, start_response):
    spin(SPINS // 2)
    return hello(environ, start_response)


def compute_2ms(environ, start_response):
    spin(SPINS * 2)
    return hello(environ, start_response)


def compute_and_wait(environ, start_response):
    """Compute 0.3 ms, then wait for 2 ms, as for a database."""
    spin(SPINS * 3 // 10)
    time.sleep(0.002)
    return hello(environ, start_response)


def upload(environ, start_response):
    """Read the body in 64 KiB blocks and answer how many bytes there were."""
    stream, remaining, total = environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0), 0
    while remaining and (block := stream.read(min(65536, remaining))):
        total += len(block)
        remaining -= len(block)
    return answer(start_response, b"%d" % total)


def download(environ, start_response):
    """Stream 1 GiB in blocks of 1 MiB."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(DOWNLOAD_BYTES))])
    return (MEGABYTE for _ in range(DOWNLOAD_BYTES // len(MEGABYTE)))


def bulk(environ, start_response):
    """Route: /upload, /download, /read (256 KiB in one block), else hello."""
    path = environ["PATH_INFO"]
    if path == "/upload":
        return upload(environ, start_response)
    if path == "/download":
        return download(environ, start_response)
    if path == "/read":
        return answer(start_response, SLOW_READ)
    return hello(environ, start_response)


def bimodal(environ, start_response):
    """Wait 200 ms for /slow, 1 ms for everything else, as for a database."""
    time.sleep(0.200 if environ["PATH_INFO"] == "/slow" else 0.001)
    return hello(environ, start_response)


def process(environ, start_response):
    """Answer which process this is."""
    return answer(start_response, b"%10d" % os.getpid())
