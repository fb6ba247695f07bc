"""TLS: certificates, names, versions, sessions, clients' certificates, and what goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import warnings

import pytest

from harness.certificates import Authority, openssl
from harness.load import Load
from harness.programs import installed
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end
from harness.sockets import listens, wait_blocked

ECHO = "apps.echo:application"
LOOK_INTERVAL = 1  # Seconds between two looks at the files of certificates.
PACE = 0.05  # Seconds between the bytes of a client that trickles.
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def connected(server, context, name="localhost", session=None):
    """A TLS connection to the server."""
    with socket.create_connection(server.address, timeout=10) as plain:
        with context.wrap_socket(
            plain, server_hostname=name, session=session, suppress_ragged_eofs=False
        ) as client:
            yield client


def test_handshake_at_a_workers_end_counts(serve, authority, pair):
    server = serve(ECHO, *pair.options, "--workers", "1", "--timeout", "10")
    with socket.create_connection(server.address, timeout=10) as plain:
        workers = server.wait_workers(1)
        # What came before it is accepted.
        with connected(server, authority.context()) as client:
            assert fetch(client)[0] == 200
        server.signal(signal.SIGHUP)
        wait_until(lambda: not listens(workers[0]), "the old worker to listen no more")
        with authority.context().wrap_socket(plain, server_hostname="localhost") as client:
            environ = json.loads(fetch(client)[1])["environ"]
    server.wait_replaced(workers)
    assert (environ["HTTPS"], environ["SSL_SERVER_NAME"]) == ("on", "localhost")


def fetch(client, request: bytes = GET) -> tuple[int, bytes]:
    """Status and body of an answer that tells its length."""
    client.sendall(request)
    return read_answer(client)


def read_answer(client) -> tuple[int, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += read_some(client)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += read_some(client)
    assert len(body) == length
    return int(head[9:12]), body


def read_some(client) -> bytes:
    piece = client.recv(65536)
    assert piece, "closed within an answer"
    return piece


def environ(client, request: bytes = GET) -> dict[str, str]:
    status, body = fetch(client, request)
    assert status == 200
    return json.loads(body)["environ"]


def subject(client) -> str:
    return dict(part[0] for part in client.getpeercert()["subject"])["commonName"]


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_request_by_tls_and_its_environ(serve, authority, pair, version):
    server = serve(ECHO, *pair.options)
    context = authority.context()
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version.replace(".", "_"))
    context.set_alpn_protocols(["http/1.1"])
    with connected(server, context) as client:
        assert (client.version(), client.selected_alpn_protocol()) == (version, "http/1.1")
        seen = environ(client)
        assert seen["wsgi.url_scheme"] == "https"
        assert (seen["HTTPS"], seen["SERVER_PORT"]) == ("on", str(server.address[1]))
        assert (seen["SSL_PROTOCOL"], seen["SSL_CIPHER"]) == (version, client.cipher()[0])
        assert seen["SSL_SERVER_NAME"] == "localhost"
        assert not any(key.startswith("SSL_CLIENT") for key in seen)
        assert environ(client)["SSL_PROTOCOL"] == version
    assert f"https://127.0.0.1:{server.address[1]}" in server.log_text
    assert "Certificate of localhost, 127.0.0.1: valid until " in server.log_text


def test_schemes_choose_per_bind(serve, authority, pair, tmp_path):
    unix = tmp_path / "app.sock"
    binds = ["https://127.0.0.1:0", "http://127.0.0.1:0", f"https://unix:{unix}"]
    server = serve(ECHO, *pair.options, bind=binds)
    with connected(server, authority.context()) as client:
        assert environ(client)["wsgi.url_scheme"] == "https"
    with socket.create_connection(server.addresses[1], timeout=10) as client:
        assert environ(client)["wsgi.url_scheme"] == "http"
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(10)
        plain.connect(str(unix))
        with authority.context().wrap_socket(plain, server_hostname="localhost") as client:
            seen = environ(client)
            assert (seen["wsgi.url_scheme"], seen["SERVER_PORT"]) == ("https", "443")


def test_refused_old_version_is_not_logged(serve, authority, pair):
    server = serve(ECHO, *pair.options)
    context = authority.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)), connected(server, context):
        pass
    for garbage in (
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff" + b"x" * 70000,
        b"\x80\x2e\x01",
        b"\0",
    ):
        with socket.create_connection(server.address, timeout=10) as client:
            with contextlib.suppress(OSError):  # It may be closed already.
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
    with connected(server, authority.context()) as client:
        assert fetch(client)[0] == 200
    assert not server.find_records("TLS|handshake|WARNING")


def test_plain_http_is_answered_in_words(serve, authority, pair):
    server = serve(ECHO, *pair.options)
    for request in (GET, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000):
        with socket.create_connection(server.address, timeout=10) as client:
            client.sendall(request)
            answer = b""
            while piece := client.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"this port speaks TLS: write https:// in place of http://" in answer


@pytest.mark.parametrize("kind", ["pkcs8", "pkcs1", "sec1"])
def test_keys_of_every_usual_kind(serve, authority, tmp_path, kind):
    pair = authority.issue("localhost", kind="rsa" if kind == "pkcs1" else "ec")
    if kind != "pkcs8":
        pair.key.write_text(openssl("pkey", "-in", pair.key, "-traditional"))
    first = pair.key.read_text().splitlines()[0]
    words = {"pkcs8": "", "pkcs1": "RSA ", "sec1": "EC "}
    assert first == f"-----BEGIN {words[kind]}PRIVATE KEY-----"
    server = serve(ECHO, *pair.options)
    with connected(server, authority.context()) as client:
        assert fetch(client)[0] == 200


def test_unusable_certificates_are_reported_at_the_start(authority, pair, tmp_path):
    locked = tmp_path / "locked.pem"
    openssl("pkey", "-in", pair.key, "-aes128", "-passout", "pass:x", "-out", locked)
    other = authority.issue("localhost")
    for key, problem in [
        (locked, f"--keyfile: the key in {locked} has a passphrase"),
        (
            other.key,
            f"--keyfile: the key in {other.key} does not belong to the certificate in {pair.certificate}",
        ),
        (tmp_path / "none", f"--keyfile: {tmp_path / 'none'} cannot be read: No such file"),
    ]:
        for words in ([], ["check"]):
            options = ["--certfile", str(pair.certificate), "--keyfile", str(key)]
            done = run_to_end(*words, "-b", "127.0.0.1:0", *options, ECHO, cwd=TESTS)
            assert done.returncode == 1
            assert problem in done.stderr
            assert "Traceback" not in done.stderr
    done = run_to_end("-b", "https://127.0.0.1:0", ECHO, cwd=tmp_path)
    assert done.returncode == 2
    assert "needs a certificate: name one with --certfile" in done.stderr


def test_requested_name_chooses_the_certificate(serve, authority, pair):
    star = authority.issue("*.example.org", "example.org", subject="/CN=star")
    rsa = authority.issue("www.example.org", kind="rsa", subject="/CN=www")
    server = serve(ECHO, *pair.options, *star.options, *rsa.options)
    context = authority.context()
    for name, expected in [
        ("localhost", "localhost"),
        ("EXAMPLE.org", "star"),
        ("a.example.org", "star"),
        ("www.example.org", "www"),
    ]:
        with connected(server, context, name) as client:
            assert subject(client) == expected
    context.check_hostname = False
    for name in ("a.b.example.org", "elsewhere.example", "127.0.0.1"):
        with connected(server, context, name) as client:
            assert subject(client) == "localhost"


def test_ciphers_are_those_that_are_named(serve, authority, pair):
    server = serve(ECHO, *pair.options, "--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256:!aNULL")
    context = authority.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connected(server, context) as client:
        assert client.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"
        assert environ(client)["SSL_CIPHER"] == "ECDHE-ECDSA-AES128-GCM-SHA256"
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    with pytest.raises((ssl.SSLError, ConnectionError)), connected(server, context):
        pass


def test_bodies_of_many_megabytes_both_ways(serve, authority, pair, tmp_path):
    server = serve("apps.large:application", *pair.options)
    size = 10_000_000
    content = os.urandom(1000) * (size // 1000)
    file = tmp_path / "file"
    file.write_bytes(content)
    head = f"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
    with connected(server, authority.context()) as client:
        client.settimeout(60)
        for request in (head + content, f"GET /file?{file} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()):
            client.sendall(request)
            wait_blocked(client)  # It reads late.
            status, body = read_answer(client)
            assert (status, body == content) == (200, True)


def test_pipelined_requests_are_answered_in_order(serve, authority, pair):
    server = serve(ECHO, *pair.options)
    with connected(server, authority.context()) as client:
        client.sendall(
            b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number for number in range(100))
        )
        received = b""
        while received.count(b'"target": "/99"') < 1:
            received += read_some(client)
    places = [received.index(b'"target": "/%d"' % number) for number in range(100)]
    assert places == sorted(places)


def test_sessions_resume_with_any_worker_and_after_reload(serve, authority, pair):
    server = serve(ECHO, *pair.options, "--workers", "2")
    old = server.wait_workers(2)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = authority.context()
        context.minimum_version = context.maximum_version = version
        session = None
        for number in range(40):
            if number == 20:
                server.signal(signal.SIGHUP)
                old = server.wait_replaced(old)
            with connected(server, context, session=session) as client:
                assert fetch(client)[0] == 200
                assert client.session_reused == (number > 0)
                session = client.session
    server.expect_log("Handling signal: SIGHUP|reload")


def test_certificate_is_replaced_under_load_without_errors(serve, authority):
    pair, new = (
        authority.issue("localhost", subject="/CN=old"),
        authority.issue("localhost", subject="/CN=new"),
    )
    server = serve(ECHO, *pair.options, "--workers", "2")
    server.wait_workers(2)
    context = authority.context()
    failures, subjects, done = [], [], threading.Event()

    def visit(keep: bool) -> None:
        while not done.is_set():
            try:
                with connected(server, context) as client:
                    subjects.append(subject(client))
                    for _ in range(20 if keep else 1):
                        assert fetch(client, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
            except BaseException as failure:
                failures.append(failure)

    threads = [threading.Thread(target=visit, args=(number % 2 == 0,)) for number in range(4)]
    [thread.start() for thread in threads]
    try:
        wait_until(lambda: len(subjects) >= 20, "clients with the old certificate")
        new.certificate.replace(pair.certificate)
        new.key.replace(pair.key)
        wait_until(lambda: subjects and subjects[-1] == "new", "the new certificate", 15)
        count = len(subjects)
        wait_until(lambda: len(subjects) >= count + 20, "clients with the new certificate")
    finally:
        done.set()
        [thread.join() for thread in threads]
    assert not failures
    assert subjects[0] == "old"
    # Those that were at it are done; from then on everybody gets the new one.
    assert set(subjects[count + len(threads) :]) == {"new"}
    server.expect_log("Certificate of localhost", count=2)
    assert len(server.find_records("Certificate of localhost")) == 2


def test_bad_certificate_is_logged_once_and_not_used(serve, authority):
    pair = authority.issue("localhost", subject="/CN=old")
    server = serve(ECHO, *pair.options)
    pair.certificate.write_text("nonsense")
    server.expect_log(r"--certfile: .* has no certificate in PEM .*; the former certificates stay")
    time.sleep(2 * LOOK_INTERVAL + 0.5)
    assert len(server.find_records("the former certificates stay")) == 1
    with connected(server, authority.context()) as client:
        assert subject(client) == "old"
    old = server.wait_workers(1)
    server.signal(signal.SIGHUP)
    server.expect_log("the former certificates stay", 2)
    server.wait_replaced(old)
    with connected(server, authority.context()) as client:
        assert (fetch(client)[0], subject(client)) == (200, "old")


def test_a_hangup_reads_certificates_at_once(serve, authority):
    pair, new = (
        authority.issue("localhost", subject="/CN=old"),
        authority.issue("localhost", subject="/CN=new"),
    )
    server = serve(ECHO, *pair.options)
    old = server.wait_workers(1)
    new.certificate.replace(pair.certificate)
    new.key.replace(pair.key)
    server.signal(signal.SIGHUP)
    server.wait_replaced(old)
    with connected(server, authority.context()) as client:
        assert subject(client) == "new"


def test_a_certificate_that_expires_soon_is_a_warning(serve, authority):
    server = serve(ECHO, *authority.issue("localhost", days=5).options)
    server.expect_log(r"WARNING.*the certificate .* expires in [45] days")


def test_clients_show_certificates(serve, authority, pair):
    subject_name = "/C=DE/O=Acme, Inc./CN=Jo\\/hn/emailAddress=j@example.org"
    somebody = authority.issue("client.example.org", "email:j@example.org", subject=subject_name)
    options = [*pair.options, "--ca-certs", str(authority.certificate)]
    server = serve(ECHO, *options, "--cert-reqs", "2")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = authority.context(somebody)
        context.minimum_version = context.maximum_version = version
        session = None
        for _ in range(2):
            with connected(server, context, session=session) as client:
                seen = environ(client)
                session = client.session
            assert seen["SSL_CLIENT_VERIFY"] == "SUCCESS"
            expected = openssl(
                "x509", "-in", somebody.certificate, "-noout", "-subject", "-nameopt", "RFC2253"
            )
            assert seen["SSL_CLIENT_S_DN"] == expected.strip().removeprefix("subject=")
            assert seen["SSL_CLIENT_I_DN"] == "CN=Portico's tests"
            assert (seen["SSL_CLIENT_S_DN_O"], seen["SSL_CLIENT_S_DN_C"]) == ("Acme, Inc.", "DE")
            assert seen["SSL_CLIENT_S_DN_Email"] == "j@example.org"
            assert (seen["SSL_CLIENT_SAN_Email_0"], seen["SSL_CLIENT_SAN_DNS_0"]) == (
                "j@example.org",
                "client.example.org",
            )
            serial = openssl("x509", "-in", somebody.certificate, "-noout", "-serial").strip()
            assert f"serial={seen['SSL_CLIENT_M_SERIAL']}" == serial
            dates = openssl("x509", "-in", somebody.certificate, "-noout", "-dates")
            assert f"notBefore={seen['SSL_CLIENT_V_START']}\nnotAfter={seen['SSL_CLIENT_V_END']}\n" == dates
            assert seen["SSL_CLIENT_CERT"] == somebody.certificate.read_text()
    with pytest.raises((ssl.SSLError, ConnectionError)), connected(server, authority.context()) as client:
        fetch(client)


def test_optional_certificate_cannot_be_forged(serve, authority, pair, tmp_path):
    options = [*pair.options, "--ca-certs", str(authority.certificate), "--cert-reqs", "1"]
    server = serve(ECHO, *options)
    forged = b"GET / HTTP/1.1\r\nHost: x\r\nSSL-Client-Verify: SUCCESS\r\nSSL_CLIENT_S_DN: CN=root\r\n\r\n"
    with connected(server, authority.context()) as client:
        seen = environ(client, forged)
        assert seen["SSL_CLIENT_VERIFY"] == "NONE"
        assert "SSL_CLIENT_S_DN" not in seen
    stranger = Authority(tmp_path / "strangers").issue("client.example.org")
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        connected(server, authority.context(stranger)) as client,
    ):
        fetch(client)
    server.expect_log("dropped the request field")


def test_a_revoked_certificate_is_refused_from_then_on(serve, authority, pair, tmp_path):
    """Nor does a session go on that was begun before. Without a list, or by an old one, nobody is let in."""
    good, bad = authority.issue("good.example.org"), authority.issue("bad.example.org")
    other = Authority(tmp_path / "others", "Others")
    crl = tmp_path / "crl.pem"
    crl.write_text(other.revocations() + authority.revocations())
    options = [*pair.options, "--ca-certs", str(authority.certificate), "--crl-file", str(crl)]
    server = serve(ECHO, *options, "--cert-reqs", "2")
    good_context, bad_context = authority.context(good), authority.context(bad)

    def is_served(context, session=None) -> bool:
        try:
            with connected(server, context, session=session) as connection:
                return fetch(connection)[0] == 200
        except (ssl.SSLError, ConnectionError):
            return False

    with connected(server, bad_context) as connection:
        assert fetch(connection)[0] == 200
        session = connection.session
    crl.write_text(other.revocations() + authority.revocations(bad))
    wait_until(lambda: not is_served(bad_context), "the list to be read", 10)
    assert not is_served(bad_context, session) and is_served(good_context)
    crl.write_text("nonsense")
    server.expect_log("--crl-file: .* has no revocation list in PEM .*; the former certificates stay")
    assert not is_served(bad_context) and is_served(good_context), "the former list stays"
    crl.write_text(other.revocations())
    wait_until(lambda: not is_served(good_context), "the list to be read", 10)
    expired = authority.revocations(seconds=1)
    time.sleep(1.5)  # It expires.
    crl.write_text(expired)
    server.expect_log("a list of --crl-file has expired")
    assert not is_served(good_context)
    crl.write_text(authority.revocations())
    wait_until(lambda: is_served(bad_context), "the list to be read", 10)


def test_silent_clients_are_cut_and_hold_no_thread(serve, authority, pair):
    server = serve(ECHO, *pair.options, "--threads", "1", "--handshake-timeout", "3", "--access-logfile", "-")
    hello = b"\x16\x03\x01\x02\x00\x01\x00"
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(server.address, timeout=10)) for _ in range(60)
        ]
        [client.sendall(hello[: number % 7]) for number, client in enumerate(silent)]
        with connected(server, authority.context()) as client:
            assert fetch(client)[0] == 200
        trickle = silent[-1]
        with pytest.raises(ConnectionError):  # While it still sends.
            for byte in (hello + b"\x01\xfc\x03\x03" + b"x" * 400)[7:]:
                trickle.sendall(bytes([byte]))
                time.sleep(PACE)
        for client in silent:
            with contextlib.suppress(ConnectionError):
                assert client.recv(100) == b"" or client is trickle
    assert not [line for line in server.stdout.lines if '" 408 ' in line]


def test_end_is_announced_and_a_cut_shows(serve, authority, pair):
    server = serve("apps.large:application", *pair.options, "--keep-alive", "1")
    for request in (
        b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        with connected(server, authority.context()) as client:
            client.sendall(request)
            while client.recv(65536):
                pass  # An end without close_notify would raise.
    with connected(server, authority.context()) as client:
        client.sendall(b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
        assert b"Content-Length: 1000" in head and body == b"x" * 10
    server.expect_log("cut|fewer|Content-Length")


def test_a_reload_under_load_loses_no_request(serve, authority, pair):
    server = serve(ECHO, *pair.options, "--workers", "2")
    old = server.wait_workers(2)
    with TlsLoad(server.address, 100, authority.context(), kept=8) as load:
        load.wait_answered(50)
        for _ in range(2):
            server.signal(signal.SIGHUP)
            old = server.wait_replaced(old)
        load.wait_answered(50)
    assert load.outcomes
    assert not load.failed, load.told()


def test_a_staple_is_sent_if_there_is_one(serve, authority, pair, tmp_path):
    request, response = tmp_path / "request.der", tmp_path / "response.der"
    index = tmp_path / "index.txt"
    index.write_text(f"V\t401231235959Z\t\t{0x3E9:04X}\tunknown\t/CN=localhost\n")
    openssl("ocsp", "-issuer", authority.certificate, "-cert", pair.certificate, "-reqout", request)
    openssl(
        *("ocsp", "-index", index, "-CA", authority.certificate, "-rsigner", authority.certificate),
        *("-rkey", authority.key, "-reqin", request, "-respout", response, "-ndays", "7"),
    )
    server = serve(ECHO, *pair.options, "--ocsp-file", str(response))
    address = f"{server.address[0]}:{server.address[1]}"
    told = openssl("s_client", "-connect", address, "-servername", "localhost", "-status", text="")
    assert "OCSP Response Status: successful" in told


def test_everything_is_redirected_to_https(serve, authority, pair):
    server = serve(ECHO, *pair.options, bind=["redirect://127.0.0.1:0", "https://127.0.0.1:0"])
    port = server.addresses[1][1]
    for request, location in [
        (b"GET /a%20b?c=d HTTP/1.1\r\nHost: example.org:80\r\n\r\n", b"/a%20b?c=d"),
        (b"POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300000, b"/"),
        (b"GET http://example.org/x?y HTTP/1.1\r\nHost: example.org\r\n\r\n", b"/x?y"),
        (b"OPTIONS * HTTP/1.1\r\nHost: example.org\r\n\r\n", b"/"),
    ]:
        with socket.create_connection(server.addresses[0], timeout=10) as client:
            client.sendall(request)
            answer = b""
            while piece := client.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 308 Permanent Redirect\r\n")
        assert b"\r\nLocation: https://example.org:%d%s\r\n" % (port, location) in answer
        assert b"\r\nConnection: close\r\n" in answer


def test_a_certificate_to_try_it_with(serve, tmp_path):
    done = run_to_end("dev-cert", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  portico --certfile dev-cert.pem --keyfile dev-key.pem --bind 127.0.0.1:8443" in done.stdout
    files = [tmp_path / "dev-cert.pem", tmp_path / "dev-key.pem"]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o600]
    again = run_to_end("dev-cert", str(tmp_path), cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert (
        again.stderr
        == f"portico: error: dev-cert: {files[0]} is there already; remove it, or name another folder\n"
    )
    server = serve(ECHO, "--certfile", str(files[0]), "--keyfile", str(files[1]))
    context = ssl.create_default_context(cafile=str(files[0]))
    for name in ("localhost", "127.0.0.1"):
        with connected(server, context, name) as client:
            assert fetch(client)[0] == 200


def test_http2_is_agreed_on_in_the_handshake(serve, authority, pair):
    url_of = "https://localhost:{}/".format
    for options, version in (((), "2"), (("--http-protocols", "h1"), "1.1")):
        server = serve(ECHO, *pair.options, *options)
        words = [installed("curl"), "-s", "--cacert", str(authority.certificate), "-w", "\n%{http_version}"]
        url = url_of(server.address[1])
        done = subprocess.run(
            [*words, "--http2", url, url], capture_output=True, text=True, check=True, timeout=30
        )
        first, told, *_ = done.stdout.split("\n")
        assert told.startswith(version)
        seen = json.loads(first)["environ"]
        assert (seen["wsgi.url_scheme"], seen["HTTPS"], seen["SSL_PROTOCOL"]) == ("https", "on", "TLSv1.3")


class ReadySocket(ssl.SSLSocket):
    """One that has nothing to read as a plain socket has nothing to read."""

    def recv(self, *arguments):
        try:
            return super().recv(*arguments)
        except ssl.SSLWantReadError as error:
            raise BlockingIOError from error


class TlsLoad(Load):
    """The same load, each connection of which speaks TLS."""

    def __init__(self, address, rate, context, **settings) -> None:
        super().__init__(address, rate, **settings)
        self.context = context
        context.sslsocket_class = ReadySocket

    def connect(self):
        plain = socket.create_connection(self.address, timeout=self.patience)
        client = self.context.wrap_socket(plain, server_hostname="localhost")
        client.setblocking(False)
        return client

    def receive(self, exchange) -> None:
        super().receive(exchange)
        # What TLS has of the answer already is told by no event.
        while exchange.client.fileno() in self.busy and exchange.client.pending():
            super().receive(exchange)
