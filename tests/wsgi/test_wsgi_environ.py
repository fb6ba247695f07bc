"""environ: every key that PEP 3333 and CGI name, true to fact."""

from __future__ import annotations

import json

import pytest

from harness.http_client import chunked, request_bytes

SERVER = ("apps.echo:application", "--threads", "4")


def tell(server, method="GET", target="/", fields=(), body=None) -> dict:
    """The request as the application saw it."""
    response = server.request(method, target, fields, body)
    assert response.status == 200, response
    return json.loads(response.body)


def test_every_key_of_a_plain_request(server):
    with server.connect() as client:
        told = json.loads(client.request("GET", "/a/b?c=d&e").body)
        client_host, client_port = client.socket.getsockname()
    environ = told["environ"]
    host, port = server.address
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "c=d&e",
        "RAW_URI": "/a/b?c=d&e",
        "REQUEST_URI": "/a/b?c=d&e",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REMOTE_ADDR": client_host,
        "REMOTE_PORT": str(client_port),
        "HTTP_HOST": "test",
        "wsgi.version": "(1, 0)",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": "True",
        "wsgi.run_once": "False",
        "wsgi.input_terminated": "True",
    }
    assert {key: environ.get(key) for key in expected} == expected
    assert environ["SERVER_SOFTWARE"].lower().startswith("portico")
    for key in ("wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "wsgi.early_hints"):
        assert key in environ
    assert told["environ_type"] == "dict"
    assert {key for key in environ if key.startswith("HTTP_")} == {"HTTP_HOST"}


def test_every_cgi_value_is_a_native_string(server):
    told = tell(
        server, "POST", "/caf%C3%A9?\x7e", [("X-Latin", "caf\xe9"), ("Content-Type", "text/plain")], b"x"
    )
    for key, kind in told["types"].items():
        if key.isupper():
            assert kind == "str", key
            assert all(ord(character) < 256 for character in told["environ"][key]), key
    assert told["environ"]["HTTP_X_LATIN"] == "caf\xe9"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/?", "/", ""),
        ("/a%20b%2Fc", "/a b/c", ""),
        ("/caf%C3%A9", "/caf\xc3\xa9", ""),
        ("/%e2%82%ac", "/\xe2\x82\xac", ""),
        ("/a+b;v=1", "/a+b;v=1", ""),
        ("//double//slash", "//double//slash", ""),
        ("/a/../b/./c", "/a/../b/./c", ""),
        ("/q?a=%20&b=?&c=/", "/q", "a=%20&b=?&c=/"),
        ("/%3Fnot-query?query", "/?not-query", "query"),
        ("/%25", "/%", ""),
    ],
)
def test_path_is_decoded_and_query_is_not(server, target, path, query):
    environ = tell(server, target=target)["environ"]
    assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["RAW_URI"]) == (path, query, target)


def test_methods_are_passed_as_they_are(server):
    for method in (
        "GET",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "PROPFIND",
        "get",
        "M-SEARCH",
    ):
        assert tell(server, method)["method"] == method


def test_content_type_and_length_stand_without_http(server):
    environ = tell(server, "POST", "/", [("Content-Type", "text/x-thing; a=b")], b"12345")["environ"]
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/x-thing; a=b", "5")
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ


def test_request_without_body_has_no_length_to_read(server):
    told = tell(server)
    assert told["environ"].get("CONTENT_LENGTH", "") in ("", "0")
    assert told["environ"].get("CONTENT_TYPE", "") == ""
    assert told["body"] == ""


def test_chunked_body_gets_its_length(server):
    head = request_bytes("POST", "/", [("Transfer-Encoding", "chunked")])
    with server.connect() as client:
        client.send(head + chunked([b"hello ", b"chunked ", b"world"]))
        told = json.loads(client.read_response().body)
        client.expect_in_sync()
    assert told["body"] == "hello chunked world"
    assert told["environ"]["CONTENT_LENGTH"] == "19"
    assert told["environ"]["wsgi.input_terminated"] == "True"
    assert "HTTP_TRANSFER_ENCODING" not in told["environ"]


def test_fields_of_one_name_are_joined_in_order(server):
    fields = [("X-Many", "a"), ("Accept", "x/y"), ("x-many", "b, c"), ("X-MANY", "d")]
    environ = tell(server, fields=fields)["environ"]
    assert environ["HTTP_X_MANY"] == "a,b, c,d"
    assert environ["HTTP_ACCEPT"] == "x/y"


SINGLETONS = {
    "Authorization": ("Basic YQ==", "Basic Yg=="),
    "Content-Range": ("bytes 0-0/2", "bytes 1-1/2"),
    "Content-Type": ("multipart/form-data; boundary=a", "multipart/form-data; boundary=b"),
    "If-Modified-Since": ("Sat, 29 Oct 1994 19:43:31 GMT", "Sun, 30 Oct 1994 19:43:31 GMT"),
    "If-Range": ('"a"', '"b"'),
    "If-Unmodified-Since": ("Sat, 29 Oct 1994 19:43:31 GMT", "Sun, 30 Oct 1994 19:43:31 GMT"),
    "Max-Forwards": ("1", "2"),
    "Origin": ("https://a.example", "https://b.example"),
    "Range": ("bytes=0-1", "bytes=2-3"),
    "Sec-WebSocket-Key": ("YQ==", "Yg=="),
}


@pytest.mark.parametrize("name", SINGLETONS)
def test_a_field_that_comes_once_has_one_value(server, name):
    one, other = SINGLETONS[name]
    key = "CONTENT_TYPE" if name == "Content-Type" else "HTTP_" + name.upper().replace("-", "_")
    twice = [(name, one), ("X-Between", "x"), (name.lower(), one)]
    for _ in range(3):  # From a template the third time.
        assert tell(server, "POST", "/", twice, b"")["environ"][key] == one
    refused = server.request("POST", "/", [(name, one), ("X-Between", "x"), (name.lower(), other)], b"")
    assert refused.status == 400 and refused.closes
    assert refused.body == b"A header field that must come once has two values.\n"


@pytest.mark.parametrize("name", ["From", "Referer", "User-Agent", "Content-Location", "Via", "If-Match"])
def test_other_fields_are_joined(server, name):
    environ = tell(server, fields=[(name, "a"), (name, "b")])["environ"]
    assert environ["HTTP_" + name.upper().replace("-", "_")] == "a,b"


def test_cookies_are_joined_by_semicolon(server):
    environ = tell(server, fields=[("Cookie", "a=1"), ("Cookie", "b=2")])["environ"]
    assert [value.strip() for value in environ["HTTP_COOKIE"].split(";")] == ["a=1", "b=2"]


def test_field_values_are_stripped_but_not_changed(server):
    environ = tell(server, fields=[("X-Space", "  a  b\tc  "), ("X-Empty", ""), ("X-Quote", '"a,b";\\')])[
        "environ"
    ]
    assert environ["HTTP_X_SPACE"] == "a  b\tc"
    assert environ["HTTP_X_EMPTY"] == ""
    assert environ["HTTP_X_QUOTE"] == '"a,b";\\'


def test_repeated_heads_on_one_connection_are_told_apart(server):
    """Equal field lines may be answered from a cache, but never mixed up with others."""
    with server.connect() as client:
        for turn in range(30):
            fields = [("X-Same", "same"), *([("X-Turn", str(turn // 5))] if turn % 3 else [])]
            environ = json.loads(client.request("GET", f"/{turn}", fields).body)["environ"]
            assert environ["PATH_INFO"] == f"/{turn}"
            assert environ["HTTP_X_SAME"] == "same"
            assert environ.get("HTTP_X_TURN") == (str(turn // 5) if turn % 3 else None)


def test_environ_does_not_leak_into_the_next_request(server):
    with server.connect() as client:
        for _ in range(5):
            assert "leak" not in json.loads(client.request("GET", "/same").body)["environ"]


def test_absolute_form_gives_path_and_host(server):
    environ = tell(server, target="http://other.example:8080/p/q?r")["environ"]
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/p/q", "r")
    assert environ["RAW_URI"] == "http://other.example:8080/p/q?r"
    assert environ["HTTP_HOST"] == "other.example:8080"


def test_http_10(server):
    with server.connect() as client:
        client.send(b"GET /old HTTP/1.0\r\n\r\n")
        told = json.loads(client.read_response().body)
        client.expect_end()
    assert told["version"] == "HTTP/1.0"
    assert "HTTP_HOST" not in told["environ"]


def test_one_thread_says_not_multithread(serve):
    assert tell(serve("apps.echo:application", "--threads", "1"))["environ"]["wsgi.multithread"] == "False"


@pytest.mark.parametrize(("workers", "told"), [("1", "False"), ("2", "True"), ("1..2", "True")])
def test_several_workers_say_multiprocess(serve, workers, told):
    server = serve("apps.echo:application", "--workers", workers)
    assert tell(server)["environ"]["wsgi.multiprocess"] == told


def test_root_path_is_script_name(serve):
    server = serve("apps.echo:application", "--root-path", "/mount/point")
    environ = tell(server, target="/mount/point/page%20one?q")["environ"]
    assert environ["SCRIPT_NAME"] == "/mount/point"
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/page one", "q")
    assert environ["RAW_URI"] == "/mount/point/page%20one?q"
    root = tell(server, target="/mount/point")["environ"]
    assert (root["SCRIPT_NAME"], root["PATH_INFO"]) == ("/mount/point", "")
    lookalike = tell(server, target="/mount/pointless")["environ"]
    assert lookalike["PATH_INFO"] == "/mount/pointless"


def test_unix_socket_takes_name_and_port_from_host(serve, tmp_path):
    server = serve("apps.echo:application", bind=f"unix:{tmp_path}/socket")
    with server.connect() as client:
        client.send(request_bytes(host="example.org:8443"))
        environ = json.loads(client.read_response().body)["environ"]
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("example.org", "8443")
    assert "REMOTE_ADDR" in environ
