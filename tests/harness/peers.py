"""Real proxies in front of the server, started with the configurations of deploy/, watched and ended.

Each runs in the foreground, as nobody where the tests are root, in a temporary folder of its own. Of its file
in deploy/ only ports, sockets and certificates are replaced by the test's; each must stand there. The rest of
its configuration, which names its folder, is here. A peer that is not installed skips its tests.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.http_client import Address, Client
from harness.ports import HOST, free_port
from harness.process import Process, read_or_empty
from harness.programs import installed
from harness.rendezvous import wait_until
from harness.server import TESTS

DEPLOY = TESTS.parent / "deploy"
NAME = "example.org"
# What files of deploy/ say of UNIX sockets, and the line that it stands for.
OVER_UNIX = re.compile(r"# Over a UNIX socket: (.*)\n.*\n")
STARTUP_PATIENCE = 20.0
STOP_PATIENCE = 10.0


@functools.cache
def certificate() -> tuple[bytes, bytes]:
    """A certificate for example.org and its key, made once, as PEM."""
    with tempfile.TemporaryDirectory() as folder:
        key, pem = Path(folder, "key"), Path(folder, "pem")
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        names = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
        names += ["-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(
            [installed("openssl"), *words.split(), *names, "-keyout", str(key), "-out", str(pem)],
            check=True,
            capture_output=True,
            timeout=30,
        )
        return pem.read_bytes(), key.read_bytes()


@functools.cache
def trust() -> ssl.SSLContext:
    """Trusts that certificate and nothing else."""
    context = ssl.create_default_context(cadata=certificate()[0].decode())
    # Peers that close after an answer need not say so within TLS too.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


class Peer:
    """A running proxy. A subclass says how one is run and configured."""

    program = ""
    # Folder in deploy/, and how the names of its files end.
    deploy = ""
    suffix = ".conf"
    # How a file tells Portico's address over TCP.
    tcp = "{}:{}"
    # Lines of its log that tell of trouble, and those among them that tell of what the tests do on purpose.
    trouble = r"(?!)"
    harmless = r"(?!)"

    def __init__(self, file: str, upstream: Address, edit: Callable[[str], str] = str) -> None:
        """Starts it with the file of this name (`http`, `uwsgi`), edited, in front of a server."""
        program = installed(self.program)
        self.folder = Path(tempfile.mkdtemp(prefix=f"portico-{self.deploy}-"))
        self.plain_port, self.tls_port, self.upstream = free_port(), free_port(), upstream
        self.site, self.main, self.log = (self.folder / name for name in ("site.cfg", "main.cfg", "log"))
        self.site.write_text(edit(self.substituted(DEPLOY / self.deploy / f"{file}{self.suffix}")))
        self.main.write_text(self.configuration())
        pem, key = certificate()
        (self.folder / "pem").write_bytes(pem)
        (self.folder / "key").write_bytes(key)
        (self.folder / "pem-and-key").write_bytes(pem + key)
        self.log.touch()
        privileges: dict = {}
        if os.geteuid() == 0:
            privileges = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            for path in [self.folder, *self.folder.iterdir()]:
                shutil.chown(path, "nobody", "nogroup")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [program, *self.arguments()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **privileges,
            )
        self.wait_ready()

    def arguments(self) -> list[str]:
        """What follows the program's name."""
        raise NotImplementedError

    def configuration(self) -> str:
        """The configuration around `self.site`: folders, logs, modules."""
        raise NotImplementedError

    def replacements(self) -> dict[str, str]:
        """What of a file in deploy/ is replaced by what: certificates here, and ports."""
        return {
            "/etc/ssl/example.org.pem": f"{self.folder}/pem",
            "/etc/ssl/example.org.key": f"{self.folder}/key",
        }

    def substituted(self, path: Path) -> str:
        """The file of deploy/ with the addresses of this test."""
        text = path.read_text()
        for old, new in self.replacements().items():
            assert old in text, f"{path} has no {old!r}"
            text = text.replace(old, new)
        if isinstance(self.upstream, str):
            text = OVER_UNIX.sub(r"\1\n", text)
            old, new = "/run/portico/portico.sock", self.upstream
        else:
            old, new = self.tcp.format("127.0.0.1", 8000), self.tcp.format(*self.upstream)
        assert old in text, f"{path} has no {old!r}"
        return text.replace(old, new)

    # Life

    def wait_ready(self) -> None:
        """Waits until it listens."""

        def listens() -> bool:
            assert self.process.poll() is None, f"exit status {self.process.returncode}"
            try:
                socket.create_connection((HOST, self.tls_port), timeout=5).close()
            except ConnectionRefusedError:
                return False
            return True

        try:
            wait_until(listens, f"{self.program} to listen", STARTUP_PATIENCE)
        except (AssertionError, TimeoutError) as error:
            told = self.log_text
            self.kill()
            raise AssertionError(f"{self.program}: {error}\n{told}") from None

    def stop(self) -> None:
        """SIGTERM; asserts that it ran until now, and that its log tells of no trouble."""
        try:
            assert self.process.poll() is None, (
                f"{self.program} has ended: {self.process.returncode}\n{self.log_text}"
            )
            self.process.terminate()
            self.process.wait(STOP_PATIENCE)
            assert not self.complaints(), "\n".join(self.complaints())
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends all its processes at once, and removes its folder."""
        if self.process.poll() is None:
            children = Process(self.process.pid).children()
            self.process.kill()
            self.process.wait(STOP_PATIENCE)
            for child in children:
                child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log_text(self) -> str:
        """What it has logged so far."""
        return read_or_empty(self.log)

    def complaints(self) -> list[str]:
        """Lines of its log that tell of trouble."""
        lines = [line for line in self.log_text.splitlines() if re.search(self.trouble, line)]
        return [line for line in lines if not re.search(self.harmless, line)]

    # Talk

    def connect(self, timeout: float = 10.0, source: str | None = None) -> Client:
        """A connection over TLS; from the address `source`, if it is given."""
        client = Client((HOST, self.tls_port), timeout, source=source)
        client.socket = trust().wrap_socket(client.socket, server_hostname=NAME)
        return client

    def connect_plain(self) -> Client:
        """A connection without TLS, to the port that sends clients to the other."""
        return Client((HOST, self.plain_port))


class Nginx(Peer):
    """nginx, one worker."""

    program = "nginx"
    deploy = "nginx"
    trouble = r"\[(warn|error|crit|alert|emerg)\]"
    harmless = r"buffered to a temporary file"

    def arguments(self) -> list[str]:
        return ["-e", str(self.log), "-p", str(self.folder), "-c", str(self.main)]

    def configuration(self) -> str:
        temporary = [
            f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ]
        for name in ("fastcgi", "uwsgi", "scgi"):
            (self.folder / f"{name}_params").symlink_to(f"/etc/nginx/{name}_params")
        lines = [f"daemon off; worker_processes 1; pid pid; error_log {self.log} info; events {{}}"]
        return "\n".join([*lines, "http {", "access_log off;", *temporary, f"include {self.site};", "}"])

    def replacements(self) -> dict[str, str]:
        return super().replacements() | {
            "listen 80;": f"listen {HOST}:{self.plain_port};",
            "listen 443 ssl;": f"listen {HOST}:{self.tls_port} ssl;",
        }


class Apache(Peer):
    """Apache, its event MPM."""

    program = "apache2"
    deploy = "apache"
    trouble = r":(warn|error|crit|alert|emerg)\]"
    modules = (
        *("mpm_event", "authz_core", "alias", "headers", "ssl", "socache_shmcb"),
        *("proxy", "proxy_http", "proxy_uwsgi", "proxy_scgi", "proxy_fcgi", "env", "setenvif"),
    )

    def arguments(self) -> list[str]:
        return ["-D", "FOREGROUND", "-f", str(self.main)]

    def configuration(self) -> str:
        return "\n".join(
            [
                *[
                    f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
                    for name in self.modules
                ],
                f"ServerRoot {self.folder}\nDefaultRuntimeDir {self.folder}\nPidFile {self.folder}/pid",
                f"SSLSessionCache shmcb:{self.folder}/sessions\nMutex file:{self.folder}",
                f"ErrorLog {self.log}\nLogLevel warn\nServerName {NAME}",
                "StartServers 1\nThreadsPerChild 16\nMaxRequestWorkers 32\nMinSpareThreads 1",
                f"Listen {HOST}:{self.plain_port}\nListen {HOST}:{self.tls_port}\nInclude {self.site}",
            ]
        )

    def replacements(self) -> dict[str, str]:
        return super().replacements() | {
            "*:80>": f"{HOST}:{self.plain_port}>",
            "*:443>": f"{HOST}:{self.tls_port}>",
        }


class Lighttpd(Peer):
    """lighttpd."""

    program = "lighttpd"
    deploy = "lighttpd"
    tcp = '"host" => "{}", "port" => {}'
    trouble = r"\((?!server\.c)[a-z_-]+\.c\.\d+\)|error|warning"

    def arguments(self) -> list[str]:
        return ["-D", "-f", str(self.main)]

    def configuration(self) -> str:
        return "\n".join(
            [
                f'server.document-root = "{self.folder}"\nserver.upload-dirs = ( "{self.folder}" )',
                f'server.errorlog = "{self.log}"\nserver.bind = "{HOST}"\nserver.port = {self.plain_port}',
                f'include "{self.site}"',
            ]
        )

    def replacements(self) -> dict[str, str]:
        return super().replacements() | {'":443"': f'"{HOST}:{self.tls_port}"'}


class Haproxy(Peer):
    """HAProxy."""

    program = "haproxy"
    deploy = "haproxy"
    suffix = ".cfg"
    trouble = r"\[(WARNING|ALERT|EMERG)\]"

    def arguments(self) -> list[str]:
        return ["-db", "-f", str(self.main), "-f", str(self.site)]

    def substituted(self, path: Path) -> str:
        # Where it passes TLS on it has no certificate.
        return super().substituted(path).replace("/etc/ssl/example.org.pem", f"{self.folder}/pem-and-key")

    def configuration(self) -> str:
        return "global\n    nbthread 1\n    maxconn 200\n"

    def replacements(self) -> dict[str, str]:
        return {
            "bind :80\n": f"bind {HOST}:{self.plain_port}\n",
            "bind :443": f"bind {HOST}:{self.tls_port}",
        }
