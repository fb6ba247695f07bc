"""Certificates and keys for the tests, made by the `openssl` command: an authority and what it signs."""

from __future__ import annotations

import datetime
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.programs import installed


def openssl(*arguments: str | Path, text: str | None = None) -> str:
    """Runs the command and returns what it prints."""
    done = subprocess.run(
        [installed("openssl"), *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Pair:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path

    @property
    def options(self) -> list[str]:
        """What has a server use it."""
        return ["--certfile", str(self.certificate), "--keyfile", str(self.key)]


class Authority:
    """Signs certificates; its own is `certificate`."""

    def __init__(self, folder: Path, name: str = "Portico's tests") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.certificate, self.key = folder / "ca.pem", folder / "ca.key"
        self.count = 0
        openssl(
            *(
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "400",
            ),
            *("-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-keyout", self.key, "-out", self.certificate),
        )

    def issue(self, *names: str, kind: str = "ec", subject: str | None = None, days: int = 390) -> Pair:
        """A certificate for these names: hosts, addresses, or `email:somebody@example.org`."""
        self.count += 1
        base = self.folder / f"{self.count}"
        pair = Pair(base.with_suffix(".pem"), base.with_suffix(".key"))
        request, extensions = base.with_suffix(".csr"), base.with_suffix(".ext")
        new = ["rsa:2048"] if kind == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        subject = subject or f"/CN={names[0]}"
        openssl("req", "-newkey", *new, "-nodes", "-subj", subject, "-keyout", pair.key, "-out", request)
        alternatives = ",".join(self.alternative(name) for name in names)
        extensions.write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl(
            *(
                "x509",
                "-req",
                "-in",
                request,
                "-CA",
                self.certificate,
                "-CAkey",
                self.key,
                "-days",
                str(days),
            ),
            *("-set_serial", str(1000 + self.count), "-extfile", extensions, "-out", pair.certificate),
        )
        return pair

    def revocations(self, *revoked: Pair, seconds: int = 86400) -> str:
        """A list of these certificates, in PEM, that is good for so long."""
        base = self.folder / "revocations"
        moment = datetime.datetime.now(datetime.timezone.utc).strftime("%y%m%d%H%M%SZ")
        serials = [openssl("x509", "-in", pair.certificate, "-noout", "-serial") for pair in revoked]
        lines = [f"R\t491231235959Z\t{moment}\t{text.strip()[7:]}\tunknown\t/CN=x\n" for text in serials]
        base.with_suffix(".txt").write_text("".join(lines))
        base.with_suffix(".number").write_text("01\n")
        base.with_suffix(".cnf").write_text(
            f"[ca]\ndefault_ca = own\n[own]\ndatabase = {base}.txt\ncrlnumber = {base}.number\n"
            "default_md = sha256\ncrl_extensions = extensions\n"
            "[extensions]\nauthorityKeyIdentifier = keyid:always\n"
        )
        return openssl(
            *("ca", "-gencrl", "-config", base.with_suffix(".cnf"), "-crlsec", str(seconds)),
            *("-cert", self.certificate, "-keyfile", self.key),
        )

    @staticmethod
    def alternative(name: str) -> str:
        """A name as a certificate has it."""
        if name.startswith("email:"):
            return name
        is_address = ":" in name or name.replace(".", "").isdigit()
        return f"{'IP' if is_address else 'DNS'}:{name}"

    def context(self, client: Pair | None = None) -> ssl.SSLContext:
        """What a client trusts that knows this authority, and its own certificate if it has one."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if client:
            context.load_cert_chain(client.certificate, client.key)
        return context
