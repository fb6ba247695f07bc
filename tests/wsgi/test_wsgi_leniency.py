"""What applications do against PEP 3333 and runs elsewhere is put right, with one warning of each kind."""

from __future__ import annotations

import pytest

from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import NO_ERROR, Http2Client
from harness.http_client import Response, request_bytes

CONTRACT = "apps.contract:application"
SERVER = (CONTRACT, "--threads", "1")
HOP_BY_HOP = [
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailers",
    "Transfer-Encoding",
    "Upgrade",
]


def start(status, headers) -> list[tuple[str, str]]:
    """The field by which the application is told what to pass to start_response."""
    return [("X-Start", ascii((status, headers)))]


def warnings(server, text: str) -> int:
    """How many warnings have `text` in them."""
    return len(server.find_records(r"\[WARNING\].*" + text))


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_hop_by_hop_field_is_dropped_and_logged(serve, name):
    server = serve(*SERVER)
    with server.connect() as client:
        for spelling in (name, name.lower(), name.upper()):
            response = client.request(
                fields=start("200 OK", [("X-A", "1"), (spelling, "chunked")]), target="/start"
            )
            assert (response.status, response.body, response.get("X-A")) == (200, b"body", "1")
            assert response.all(name) == []
        client.expect_in_sync()
    server.expect_log(rf"\[WARNING\].*GET /start: the header {name} is dropped")
    assert warnings(server, "is dropped") == 1
    client_of_another = server.request("GET", "/start", start("200 OK", [("X-B", "2"), ("Server", "mine")]))
    assert client_of_another.get("X-B") == "2"


def test_each_name_has_its_warning(serve):
    server = serve(*SERVER)
    headers = [(name, "x") for name in HOP_BY_HOP]
    for _ in range(2):
        assert server.request("GET", "/start", start("200 OK", headers)).status == 200
    for name in HOP_BY_HOP:
        server.expect_log(rf"\[WARNING\].*the header {name} ")
    assert [warnings(server, f"the header {name} ") for name in HOP_BY_HOP] == [1] * len(HOP_BY_HOP)


def test_an_event_stream_is_served(server):
    with server.connect() as client:
        response = client.request("GET", "/event-stream")
        assert response.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n" and not response.closes
        client.expect_in_sync()


@pytest.mark.parametrize("value", ["close", "Close", "close, X-A", "keep-alive, close"])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_connection_close_closes(server, version, value):
    target = f"/close-asked?value={value.replace(' ', '%20')}"
    with server.connect() as client:
        client.send(request_bytes(target=target, version=version, fields=[("Connection", "keep-alive")]))
        response = client.read_response()
        assert (response.body, response.all("Connection")) == (b"body", ["close"])
        client.expect_end()


def test_connection_close_is_no_warning(serve):
    server = serve(*SERVER)
    assert server.request("GET", "/close-asked?value=close").closes
    assert warnings(server, "Connection") == 0


def test_connection_close_applies_to_one_response_only(server):
    for _ in range(2):
        assert server.request("GET", "/close-asked?value=close").closes
        with server.connect() as client:
            assert not client.request("GET", "/ping").closes
            client.expect_in_sync()


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [("426 Upgrade Required", "Upgrade", "TLS/1.3, HTTP/1.1"), ("407 Log in", "Proxy-Authenticate", "Basic")],
)
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_what_belongs_to_a_status_passes_with_it(serve, version, status, name, value):
    server = serve(*SERVER)
    with server.connect() as client:
        fields = [*start(status, [(name, value)]), ("Connection", "keep-alive")]
        client.send(request_bytes(target="/start", fields=fields, version=version))
        response = client.read_response()
        assert (response.status, response.get(name)) == (int(status[:3]), value)
        check_connection_of_upgrade(response, version, name)
        client.expect_in_sync()
    assert warnings(server, name) == 0


def check_connection_of_upgrade(response: Response, version: str, name: str) -> None:
    """RFC 9110, section 7.8: who sends Upgrade names it in Connection."""
    kept = ["keep-alive"] if version == "HTTP/1.0" else []
    options = [*kept, *(["Upgrade"] if name == "Upgrade" else [])]
    assert response.all("Connection") == ([", ".join(options)] if options else [])


def test_upgrade_beside_a_close(server):
    headers = [("Upgrade", "TLS/1.3"), ("Connection", "Upgrade, close")]
    with server.connect() as client:
        response = client.request("GET", "/start", start("426 Upgrade Required", headers))
        assert (response.get("Connection"), response.get("Upgrade")) == ("close, Upgrade", "TLS/1.3")
        client.expect_end()


def test_http2_never_sends_them(server):
    """RFC 9113, section 8.2.2: fields of a connection make a response malformed; 407 has its field."""
    with Http2Client(server.address) as client:
        headers = [(name, "x") for name in HOP_BY_HOP if name != "Proxy-Authenticate"]
        for status in ("200 OK", "426 Upgrade Required"):
            answer = client.request("/start", fields=lowered(start(status, [*headers, ("X-A", "1")])))
            assert (answer.status, answer.body, answer.get("x-a")) == (int(status[:3]), b"body", "1")
            assert not {name.lower() for name in HOP_BY_HOP} & {name for name, _ in answer.fields}
        answer = client.request(
            "/start", fields=lowered(start("407 Log in", [("Proxy-Authenticate", "Basic")]))
        )
        assert (answer.status, answer.get("proxy-authenticate")) == (407, "Basic")
        client.expect_alive()


def lowered(fields) -> list[tuple[str, str]]:
    """Names as HTTP/2 has them."""
    return [(name.lower(), value) for name, value in fields]


def test_connection_close_ends_http2_after_its_streams(serve):
    server = serve(CONTRACT, "--threads", "2")
    with Http2Client(server.address) as client:
        held = client.open("/held-blocks")
        client.wait(
            lambda: held in client.answers and client.answers[held].body == b"first", "the first block"
        )
        answer = client.request("/close-asked?value=close")
        assert (answer.status, answer.body, answer.get("connection")) == (200, b"body", None)
        for gate in ("second", "third"):
            server.rendezvous.open(gate)
        assert client.answer(held).body == b"firstsecondthird"
        assert client.wait_end() == NO_ERROR


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gateways_are_told_none_of_the_dropped(serve, tmp_path, protocol):
    server = serve(*SERVER, bind=f"{protocol}://unix:{tmp_path}/s")
    headers = [*((name, "x") for name in HOP_BY_HOP), ("Connection", "close"), ("X-A", "1")]
    values = variables("/start", HTTP_X_START=start("200 OK", headers)[0][1])
    answer = ask(server.address, protocol, values)
    assert (answer.status, answer.body, answer.field("X-A")) == (200, b"body", "1")
    assert not any(answer.field(name) for name in HOP_BY_HOP)


def test_early_hints_drop_them_too(serve):
    server = serve("apps.leniency:application", "--threads", "1")
    with server.connect() as client:
        response = client.request("GET", "/hints")
        (hint,) = response.interim
        assert hint.status == 103 and [name for name, _ in hint.fields] == ["Link"]
        client.expect_in_sync()
    server.expect_log(r"\[WARNING\].*the header Keep-Alive is dropped")


# What is taken for what PEP 3333 asks for


@pytest.mark.parametrize(
    ("status", "headers", "warning"),
    [
        ("204", [], "no reason phrase"),
        ("200", [("X-A", "1")], "no reason phrase"),
        ("404", [("X-A", "1")], "no reason phrase"),
        ("200 OK", (("X-A", "1"), ("X-B", "2")), "are no list"),
        ("200 OK", (), "are no list"),
        ("200 OK", [["X-A", "1"]], "is a list, not a tuple"),
        ("200 OK", (["X-A", "1"], ("X-B", "2")), "is a list, not a tuple"),
        ("200 OK", [("Trailer", "X-Sum"), ("X-A", "1")], "Trailer announces"),
    ],
)
def test_it_is_taken_with_one_warning(serve, status, headers, warning):
    server = serve(*SERVER)
    for _ in range(3):
        with server.connect() as client:
            response = client.request("GET", "/start", start(status, headers))
            assert response.status == int(status[:3])
            assert [value for name, value in response.fields if name.startswith("X-")] == [
                value for name, value in headers if name.startswith("X-")
            ]
            client.expect_in_sync()
    server.expect_log(rf"\[WARNING\].*GET /start: .*{warning}")
    assert warnings(server, warning) == 1


@pytest.mark.parametrize(("status", "reason"), [("200", "OK"), ("404", "Not Found"), ("599", "")])
def test_a_status_alone_has_its_standard_reason(server, status, reason):
    assert server.request("GET", "/start", start(status, [])).reason == reason


def test_a_trailer_field_is_handed_on(server):
    assert server.request("GET", "/start", start("200 OK", [("Trailer", "X-Sum")])).get("Trailer") == "X-Sum"
    with Http2Client(server.address) as client:
        answer = client.request("/start", fields=lowered(start("200 OK", [("Trailer", "X-Sum")])))
        assert answer.get("trailer") == "X-Sum"


@pytest.mark.parametrize("kind", ["items", "generator"])
def test_headers_may_be_any_iterable(server, kind):
    response = server.request("GET", f"/start-iterable?{kind}")
    assert (response.status, response.get("X-A"), response.get("X-B")) == (200, "1", "2")


def test_headers_without_end_are_refused(server):
    assert server.request("GET", "/start-iterable?endless").status == 500
    server.expect_log(r"GET /start-iterable\b.*at most 1,000 headers")


def test_what_iterating_headers_raises_is_the_application_s(server):
    assert server.request("GET", "/start-iterable?raising").status == 500
    server.expect_log(r"GET /start-iterable\b.*ZeroDivisionError")


# --strict-wsgi


@pytest.fixture(scope="module")
def strict(serve_module):
    """A server that puts nothing right."""
    return serve_module(CONTRACT, "--threads", "1", "--strict-wsgi")


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        *(("200 OK", [(name, "x")]) for name in [*HOP_BY_HOP, "Trailer"]),
        ("200 OK", [("Connection", "close")]),
        ("426 Upgrade Required", [("Upgrade", "TLS/1.3")]),
        ("407 Log in", [("Proxy-Authenticate", "Basic")]),
        ("204", []),
        ("200 OK", ()),
        ("200 OK", [["X-A", "1"]]),
    ],
)
def test_strictly_nothing_is_put_right(strict, status, headers):
    assert strict.request("GET", "/start", start(status, headers)).status == 500
    strict.expect_log(r"GET /start\b")


def test_strictly_headers_are_a_list(strict):
    assert strict.request("GET", "/start-iterable?items").status == 500
    strict.expect_log(r"GET /start-iterable\b.*response headers must be a list, not dict_items")
