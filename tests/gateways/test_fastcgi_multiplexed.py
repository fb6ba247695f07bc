"""FastCGI with several requests on one connection, and requests that are given up."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import threading
import time

import pytest

from harness import gateway_client as wire
from harness.gateway_client import Gateway, variables
from harness.rendezvous import wait_until

APP = "apps.behind:application"
COMPLETE, OVERLOADED, UNKNOWN_ROLE = (bytes([0, 0, 0, 0, status, 0, 0, 0]) for status in (0, 2, 3))


class Multiplexed(Gateway):
    """A connection whose answers are told apart by their ids."""

    def __init__(self, address, timeout: float = 10.0) -> None:
        super().__init__(address, "fastcgi", timeout)
        self.outputs: dict[int, bytes] = {}
        # What END_REQUEST said of each that has ended, in their order.
        self.ends: list[tuple[int, bytes]] = []

    def read_end(self) -> tuple[int, bytes]:
        """Reads on until a request ends; which, and its standard output."""
        while told := self.read_record():
            kind, identity, content = told
            if kind == wire.STDOUT:
                self.outputs[identity] = self.outputs.get(identity, b"") + content
            else:
                assert kind == wire.END, told
                self.ends.append((identity, content))
                return identity, self.outputs.pop(identity, b"")
        raise AssertionError(f"no END_REQUEST after {self.outputs}")

    def read_answers(self, count: int) -> dict[int, wire.Answer]:
        """The next answers, by id."""
        ends = dict(self.read_end() for _ in range(count))
        return {identity: wire.parsed(output) for identity, output in ends.items()}

    def ask(self, identity: int, target: str, body: bytes = b"", keep: bool = True, **more: str) -> None:
        """Sends a request."""
        values = variables(target, "POST" if body else "GET", PATH_INFO=target.partition("?")[0], **more)
        self.send(wire.fastcgi(values, body, keep, identity))

    def expect_in_sync(self) -> None:
        """One more request and its answer, and nothing else."""
        self.ask(9, "/mirror", b"in sync")
        answers = self.read_answers(1)
        assert answers[9].body == b"in sync" and not self.buffer


@pytest.fixture
def start(serve, tmp_path):
    """Starts a server with these options; gives it and what connects."""

    def run(*options: str, app: str = APP):
        server = serve(app, *options, bind=f"fastcgi://unix:{tmp_path}/s")
        return server, lambda: Multiplexed(server.address)

    return run


def test_a_fast_one_beside_a_slow_one(start):
    server, connect = start("--threads", "2")
    with connect() as gateway:
        gateway.ask(1, "/events/held?gate=slow")
        server.rendezvous.wait_for("holding slow")
        for number in range(3):
            gateway.ask(2, "/mirror", b"%d" % number)
            identity, output = gateway.read_end()
            assert (identity, wire.parsed(output).body) == (2, b"%d" % number)
        assert gateway.outputs[1].endswith(b"\r\n\r\nfirst")
        server.rendezvous.open("slow")
        identity, output = gateway.read_end()
        assert (identity, wire.parsed(output).body) == (1, b"firstlast")
        gateway.expect_in_sync()


def test_a_hundred_ids_and_again(start):
    _, connect = start("--threads", "4")
    with connect() as gateway:
        for _ in range(3):
            bodies = {identity: b"%d " % identity * 1000 for identity in range(1, 101)}
            requests = b"".join(
                wire.fastcgi(variables("/mirror", "POST"), body, True, identity)
                for identity, body in bodies.items()
            )
            # Who does not read is not read from either.
            sender = threading.Thread(target=gateway.send, args=(requests,))
            sender.start()
            answers = gateway.read_answers(100)
            sender.join()
            assert {identity: answer.body for identity, answer in answers.items()} == bodies
        gateway.expect_in_sync()


def test_records_of_all_requests_may_be_mixed(start):
    _, connect = start("--threads", "2")
    ids = [1, 700, 65535]
    with connect() as gateway:
        for identity in ids:
            gateway.send(wire.begin(True, identity=identity))
        told = wire.pairs(variables("/mirror", "POST", CONTENT_LENGTH="30"))
        for at in range(len(told)):
            gateway.send(b"".join(wire.record(wire.PARAMS, told[at : at + 1], identity) for identity in ids))
        gateway.send(b"".join(wire.record(wire.PARAMS, b"", identity) for identity in ids))
        for digit in range(10):
            block = b"%d%d%d" % (digit, digit, digit)
            pieces = [wire.record(wire.STDIN, block, identity, padding=digit) for identity in ids]
            gateway.send(b"".join(pieces))
        gateway.send(b"".join(wire.record(wire.STDIN, b"", identity) for identity in ids))
        body = b"".join(b"%d" % digit * 3 for digit in range(10))
        answers = gateway.read_answers(3)
        assert [answers[identity].body for identity in ids] == [body] * 3
        gateway.expect_in_sync()


@pytest.mark.parametrize("options", [(), ("--stream-request-body=always",)], ids=["stored", "streamed"])
def test_a_large_body_beside_small_requests(start, options):
    _, connect = start("--threads", "2", "--request-buffer", "64k", *options)
    body = bytes(range(256)) * 40_000
    with connect() as gateway:
        data = wire.fastcgi(variables("/mirror", "POST", PATH_INFO="/mirror"), body, True, 1)
        third = len(data) // 3
        for part in range(3):
            # Cut within a record: the small ones come between the records of the large one.
            records = data[third * part : third * (part + 1) if part < 2 else len(data)]
            sender = threading.Thread(target=gateway.send, args=(records,))
            sender.start()
            sender.join()
        gateway.ask(2, "/pid")
        first, _ = gateway.read_end(), gateway.ask(3, "/pid")
        ends = dict([first, gateway.read_end(), gateway.read_end()])
        assert set(ends) == {1, 2, 3}
        large = wire.parsed(ends[1])
        assert large.body == body and large.field("X-Digest") == hashlib.sha256(body).hexdigest()
        gateway.expect_in_sync()


def test_a_body_that_is_not_read_holds_nobody(start):
    server, connect = start("--threads", "2", "--request-buffer", "4k", "--stream-request-body=always")
    body = b"x" * 2_000_000
    with connect() as gateway:
        gateway.send(wire.begin(True, identity=2))
        gateway.ask(1, "/silent?patience=30", body)
        server.rendezvous.wait_for("silent begins")
        gateway.send(wire.fastcgi(variables("/mirror", "POST"), b"beside", True, 2)[16:])
        identity, output = gateway.read_end()
        assert (identity, wire.parsed(output).body) == (2, b"beside")
        gateway.send(wire.record(wire.ABORT, identity=1))
        assert gateway.read_end() == (1, b"")
        server.rendezvous.wait_for("silent: gone")
        gateway.expect_in_sync()


@pytest.mark.parametrize("reads_first", [True, False])
def test_response_before_the_bodys_end_keeps_the_connection(start, reads_first):
    """What of the body is still to come is no request's then, be the answer written or on its way."""
    _, connect = start("--stream-request-body=always", app="apps.contract:application")
    with connect() as gateway:
        for identity in (1, 1, 2):
            data = wire.fastcgi(variables("/body?kind=large", "POST"), b"x" * 100_000, True, identity)
            gateway.send(data[:60_000])
            answers = gateway.read_answers(1) if reads_first else {}
            if not reads_first:
                gateway.outputs[identity] = gateway.read_record()[2]
            gateway.send(data[60_000:])
            gateway.ask(7, "/body?kind=one")
            answers |= gateway.read_answers(2 - len(answers))
            assert answers[identity].body == b"x" * 3_000_000
            assert answers[7].body == b"hello"


def test_a_slow_upload_has_its_own_deadline(start):
    _, connect = start("--body-timeout", "1", "--head-timeout", "3")
    with connect() as gateway:
        gateway.send(
            wire.fastcgi(variables("/mirror", "POST", CONTENT_LENGTH="9"), keep=True, identity=1)[:-8]
        )
        gateway.send(wire.begin(True, identity=2))
        gateway.ask(3, "/pid")
        assert gateway.read_answers(1)[3].status == 200
        started = time.monotonic()
        assert gateway.read_answers(1)[1].status == 408
        assert gateway.read_answers(1)[2].status == 408
        assert time.monotonic() - started > 1.5
        # What still comes of a request that has been answered is passed over.
        gateway.send(wire.record(wire.STDIN, b"late", 1) + wire.record(wire.STDIN, b"", 1))
        gateway.expect_in_sync()


def test_too_large_a_body_costs_its_request_alone(start):
    _, connect = start("--limit-request-body", "4")
    with connect() as gateway:
        gateway.send(wire.begin(True, identity=2))
        gateway.ask(1, "/mirror", b"12345")
        assert gateway.read_answers(1)[1].status == 413
        gateway.send(wire.fastcgi(variables("/mirror", "POST"), b"1234", True, 2)[16:])
        assert gateway.read_answers(1)[2].body == b"1234"


def test_abort_of_a_call(start, tmp_path):
    log = tmp_path / "access.log"
    server, connect = start("--access-logfile", str(log), "--access-logformat", "json")
    with connect() as gateway:
        gateway.ask(1, "/silent?patience=30")
        server.rendezvous.wait_for("silent begins")
        gateway.send(wire.record(wire.ABORT, identity=1))
        assert gateway.read_end() == (1, b"") and gateway.ends == [(1, COMPLETE)]
        server.rendezvous.wait_for("silent: gone")
        # The id is free, and the connection kept.
        gateway.ask(1, "/mirror", b"again")
        assert gateway.read_answers(1)[1].body == b"again"
    wait_until(lambda: log.exists() and log.read_text().count("\n") == 2, "two lines")
    told = json.loads(log.read_text().splitlines()[0])
    assert (told["url.path"], told["http.response.status_code"]) == ("/silent", 499)
    assert told["portico.reason"] == "client_gone"


def test_abort_of_one_of_several(start):
    server, connect = start("--threads", "3")
    with connect() as gateway:
        gateway.ask(1, "/events/held?gate=kept")
        gateway.ask(2, "/events/endless")
        server.rendezvous.wait_for("holding kept")
        gateway.send(wire.record(wire.ABORT, identity=2))
        identity, output = gateway.read_end()
        assert identity == 2 and b"last" not in output
        server.rendezvous.open("kept")
        assert gateway.read_answers(1)[1].body == b"firstlast"
        gateway.expect_in_sync()


def test_abort_of_a_queued_one(start, tmp_path):
    log = tmp_path / "access.log"
    server, connect = start(
        "--threads", "1", "--access-logfile", str(log), "--access-logformat", "%(U)s %(s)s"
    )
    with connect() as gateway:
        gateway.ask(1, "/events/held?gate=first")
        server.rendezvous.wait_for("holding first")
        gateway.ask(2, "/mirror", b"never run")
        gateway.send(wire.record(wire.ABORT, identity=2))
        assert gateway.read_end() == (2, b"")
        server.rendezvous.open("first")
        assert gateway.read_answers(1)[1].body == b"firstlast"
    server.stop()
    assert sorted(log.read_text().splitlines()) == ["/events/held 200", "/mirror 499"]
    server.expect_log("queued requests not run because their client had left: 1")


def test_abort_raises_in_the_call(start):
    _, connect = start("--on-disconnect", "raise")
    with connect() as gateway:
        gateway.ask(1, "/events/endless")
        while 1 not in gateway.outputs:
            _, identity, content = gateway.read_record()
            gateway.outputs[identity] = content
        gateway.send(wire.record(wire.ABORT, identity=1))
        assert gateway.read_end()[0] == 1
        gateway.expect_in_sync()


def test_abort_without_keep_ends_the_connection(start):
    server, connect = start()
    with connect() as gateway:
        gateway.ask(1, "/silent?patience=30", keep=False)
        server.rendezvous.wait_for("silent begins")
        gateway.send(wire.record(wire.ABORT, identity=1))
        assert gateway.read_end() == (1, b"") and gateway.read_record() is None


def test_request_without_keep_ends_the_connection_last(start):
    server, connect = start("--threads", "2")
    with connect() as gateway:
        gateway.ask(1, "/events/held?gate=last")
        server.rendezvous.wait_for("holding last")
        gateway.ask(2, "/pid", keep=False)
        assert gateway.read_answers(1)[2].status == 200
        gateway.ask(3, "/pid")
        assert gateway.read_end() == (3, b"") and gateway.ends[-1] == (3, OVERLOADED)
        server.rendezvous.open("last")
        assert gateway.read_answers(1)[1].body == b"firstlast"
        assert gateway.read_record() is None


def test_more_than_can_run_and_wait(start):
    server, connect = start("--threads", "1", "--max-queue", "2")
    with connect() as gateway:
        asked = {"FCGI_MAX_REQS": "", "FCGI_MPXS_CONNS": "", "FCGI_MAX_CONNS": ""}
        gateway.send(wire.record(wire.GET_VALUES, wire.pairs(asked), identity=0))
        kind, identity, content = gateway.read_record()
        assert (kind, identity) == (wire.GET_VALUES_RESULT, 0)
        assert content.startswith(wire.pairs({"FCGI_MAX_REQS": "3", "FCGI_MPXS_CONNS": "1"}))
        connections = int(content.partition(b"FCGI_MAX_CONNS")[2])
        assert 100 < connections < 2**31
        gateway.ask(1, "/events/held?gate=only")
        server.rendezvous.wait_for("holding only")
        for number in range(2, 7):
            gateway.ask(number, "/pid")
        for number in range(4, 7):
            assert gateway.read_end() == (number, b"") and gateway.ends[-1] == (number, OVERLOADED)
        server.rendezvous.open("only")
        answers = gateway.read_answers(3)
        assert {identity: answer.status for identity, answer in answers.items()} == {1: 200, 2: 200, 3: 200}
        gateway.expect_in_sync()


def test_end_of_the_connection_ends_its_requests(start):
    server, connect = start("--threads", "2")
    gateway = connect()
    gateway.ask(1, "/silent?patience=30")
    server.rendezvous.wait_for("silent begins")
    gateway.ask(2, "/silent?patience=30")
    server.rendezvous.wait_for("silent begins", 2)
    gateway.close()
    server.rendezvous.wait_for("silent: gone", 2)


def test_broken_response_ends_the_connection_after_the_others(start):
    server, connect = start("--threads", "2", app="apps.contract:application")
    with connect() as gateway:
        gateway.send(wire.begin(True, identity=2))
        gateway.ask(
            1, "/raise?error=Exception&at=second-block", QUERY_STRING="error=Exception&at=second-block"
        )
        server.expect_log("ValueError")
        gateway.send(wire.fastcgi(variables("/raise?error=Exception&at=never"), keep=True, identity=2)[16:])
        assert gateway.read_answers(1)[2].body == b"firstsecond"
        with contextlib.suppress(ConnectionResetError):
            assert gateway.read_record() is None
        assert gateway.outputs[1].endswith(b"first") and len(gateway.ends) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x02",
        wire.begin(identity=1),
        wire.record(wire.BEGIN, b"short", 3),
        wire.record(wire.GET_VALUES, b"\x05\x05", 0),
        wire.record(wire.PARAMS, b"\x05\x05a", 2) + wire.record(wire.PARAMS, b"", 2),
    ],
    ids=["version", "open", "begin", "values", "params"],
)
def test_what_is_malformed_is_closed_with_one_line(start, data):
    server, connect = start("--threads", "2")
    with connect() as gateway:
        gateway.send(wire.begin(True, identity=1) + wire.begin(True, identity=2) + data)
        if data[1:2] == bytes([wire.PARAMS]):
            gateway.send(wire.record(wire.ABORT, identity=1))
            assert gateway.read_end() == (1, b"")
        with contextlib.suppress(ConnectionResetError):
            assert gateway.read_record() is None
    server.expect_log(r"closed a fastcgi connection of a UNIX socket: .* \(1 so far\)")
    assert not server.find_records(r"\(2 so far\)")


def test_graceful_stop_finishes_all_and_accepts_no_more(start):
    server, connect = start("--threads", "3")  # One for what is asked before the stop is known.
    with connect() as gateway:
        gateway.ask(1, "/events/held?gate=one")
        server.rendezvous.wait_for("holding one")
        gateway.ask(2, "/events/held?gate=two")
        server.rendezvous.wait_for("holding two")
        server.signal(signal.SIGTERM)
        number, until = 3, time.monotonic() + 10
        while time.monotonic() < until:
            gateway.ask(number, "/pid")
            assert gateway.read_end()[0] == number
            if gateway.ends[-1][1] == OVERLOADED:
                break
            number += 1
        assert gateway.ends[-1][1] == OVERLOADED
        server.rendezvous.open("one")
        server.rendezvous.open("two")
        answers = gateway.read_answers(2)
        assert {identity: answer.body for identity, answer in answers.items()} == {
            1: b"firstlast",
            2: b"firstlast",
        }
        assert gateway.read_record() is None


def test_a_connection_that_was_shared_outlives_its_worker(start):
    server, connect = start("--workers", "2", "--threads", "2", app="apps.processes:application")
    old = server.wait_workers(2)
    with connect() as gateway:
        gateway.ask(1, "/pid")
        gateway.ask(2, "/pid")
        answers = gateway.read_answers(2)
        before = {int(answer.body) for answer in answers.values()}
        assert len(before) == 1 and before <= {process.pid for process in old}
        server.signal(signal.SIGHUP)
        server.wait_replaced(old)
        gateway.ask(1, "/pid")
        assert int(gateway.read_answers(1)[1].body) not in before


def test_unknown_ids_and_questions_beside_requests(start):
    server, connect = start("--threads", "2")
    with connect() as gateway:
        gateway.ask(1, "/events/held?gate=asked")
        server.rendezvous.wait_for("holding asked")
        for kind in (wire.ABORT, wire.PARAMS, wire.STDIN, wire.DATA, wire.STDOUT, 99):
            gateway.send(wire.record(kind, b"\xff" * 20, 77, 5))
        gateway.send(wire.begin(role=3, keep=True, identity=4))
        while not gateway.ends:
            told = gateway.read_record()
            if told[0] == wire.END:
                gateway.ends.append(told[1:])
            else:
                gateway.outputs[1] = gateway.outputs.get(1, b"") + told[2]
        assert gateway.ends == [(4, UNKNOWN_ROLE)]
        gateway.send(wire.record(wire.GET_VALUES, wire.pairs({"FCGI_MPXS_CONNS": ""}), 0))
        gateway.send(wire.record(99, identity=0))
        assert gateway.read_record() == (wire.GET_VALUES_RESULT, 0, wire.pairs({"FCGI_MPXS_CONNS": "1"}))
        assert gateway.read_record() == (wire.UNKNOWN_TYPE, 0, bytes([99]) + bytes(7))
        server.rendezvous.open("asked")
        assert gateway.read_answers(1)[1].body == b"firstlast"
        gateway.ask(1, "/")
        assert json.loads(gateway.read_answers(1)[1].body)["environ"]["REMOTE_ADDR"] == "192.0.2.7"
