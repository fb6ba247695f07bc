"""Every one of gunicorn's 120 settings by flag, by variable and in files.

Each counts, is ignored with a warning, or is refused by name. The list is that of the crates' own account,
crates/portico-config/tests/gunicorn_settings.toml.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.server import TESTS, run_to_end

ACCOUNT = Path(TESTS).parent / "crates" / "portico-config" / "tests" / "gunicorn_settings.toml"
SCHEMA = Path(TESTS).parent / "docs" / "reference" / "portico.schema.json"
LINE = re.compile(r'(\w+) = \{ grade = "([A-D])", options = \[(.*?)\](, hook = true)? \}')

# A value other than the default, where "x" or "1" would be none: by gunicorn's name.
VALUES = {
    "access_log_format": "%(h)s",
    "accesslog": "-",
    "backlog": "100",
    "bind": "127.0.0.1:7",
    "cert_reqs": "1",
    "chdir": "/",
    "ciphers": "AES128",
    "dogstatsd_tags": "a:b",
    "errorlog": "/dev/null",
    "forwarded_allow_ips": "10.0.0.1",
    "forwarder_headers": "SCRIPT_NAME",
    "graceful_timeout": "7",
    "group": "0",
    "header_map": "refuse",
    "http2_cleartext": "off",
    "http2_initial_window_size": "70000",
    "http2_max_concurrent_streams": "7",
    "http2_max_frame_size": "20000",
    "http2_max_header_list_size": "7000",
    "http_protocols": "h1",
    "keepalive": "7",
    "limit_request_field_size": "4000",
    "limit_request_fields": "50",
    "limit_request_line": "4000",
    "logger_class": "mysite.Logger",
    "loglevel": "debug",
    "max_requests": "100",
    "max_requests_jitter": "10",
    "paste": "/etc/hostname",
    "preload_app": "true",
    "proc_name": "shop",
    "protocol": "uwsgi",
    "proxy_allow_ips": "10.0.0.1",
    "uwsgi_allow_ips": "10.0.0.1",
    "proxy_protocol": "v1",
    "pythonpath": "/",
    "raw_env": "A=1",
    "raw_paste_global_conf": "a=1",
    "reload_engine": "poll",
    "reload_extra_files": "/etc/hostname",
    "root_path": "/api",
    "secure_scheme_headers": "X-SSL=on",
    "sendfile": "false",
    "statsd_host": "127.0.0.1:8125",
    "syslog_addr": "udp://127.0.0.1:514",
    "syslog_facility": "local0",
    "threads": "7",
    "timeout": "7",
    "tmp_upload_dir": "/tmp",
    "umask": "022",
    "user": "0",
    "worker_class": "sync",
    "worker_connections": "10",
    "workers": "3",
    "wsgi_app": "a:b",
}

# What else has to be said for a setting to be taken.
NEEDS = {
    "cert_reqs": {"PORTICO_CERTFILE": "c.pem", "PORTICO_CA_CERTS": "a.pem"},
    "keyfile": {"PORTICO_CERTFILE": "c.pem"},
}

# They ask for what is done anyway.
SILENT = {"control_socket_disable", "suppress_ragged_eofs"}


def account() -> list[tuple[str, str, list[str], bool]]:
    """Name, grade, options and whether it is a hook."""
    lines = LINE.findall(ACCOUNT.read_text())
    return [
        (name, grade, re.findall(r'"([^"]+)"', options), bool(hook)) for name, grade, options, hook in lines
    ]


ALL = account()
PROPERTIES = json.loads(SCHEMA.read_text())["properties"]


def ours(name: str) -> str | None:
    """Our name of gunicorn's setting; None where it does nothing here."""
    if name not in PROPERTIES:
        return None
    return PROPERTIES[name].get("$ref", name).rsplit("/", 1)[-1]


def is_switch(name: str) -> bool:
    return PROPERTIES[ours(name)].get("type") == "boolean" or name == "preload_app"


def value_of(name: str) -> str:
    return VALUES.get(name, "true" if is_switch(name) else "x")


def toml(name: str, text: str) -> str:
    """`text` in the type that the schema asks for."""
    kind = PROPERTIES[ours(name)]
    kinds = [kind.get("type"), *(option.get("type") for option in kind.get("anyOf", []))]
    if is_switch(name):
        return text
    if text.isdigit() and not text.startswith("0") and ("integer" in kinds or "number" in kinds):
        return text
    return json.dumps(text)


def config(*arguments: str, cwd: Path, environment: dict[str, str | None] | None = None):
    """Runs `portico config`, without the harness' own word on workers."""
    return run_to_end(
        "config", *arguments, cwd=cwd, environment={"PORTICO_WORKERS": None} | (environment or {})
    )


def shown(process, name: str) -> dict:
    """What it says of the setting."""
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)[ours(name)]


REAL = [
    name for name, _, _, hook in ALL if ours(name) and not hook and name not in ("config", "logconfig_dict")
]
OTHERS = [(name, grade, options) for name, grade, options, hook in ALL if not ours(name) and name != "config"]


def test_the_account_is_whole():
    assert len(ALL) == 120
    assert len(REAL) + len(OTHERS) + sum(1 for name, *_, hook in ALL if hook and ours(name)) == 118


@pytest.mark.parametrize("name", REAL)
def test_a_setting_counts_by_each_way(name, tmp_path):
    text = value_of(name)
    options = next(options for other, _, options, _ in ALL if other == name)
    values = []
    needs = NEEDS.get(name, {})

    for option in options:
        given = [option] if is_switch(name) else [option, text]
        by_flag = shown(config("--json", *given, cwd=tmp_path, environment=needs), name)
        assert by_flag["source"] == "command line"
        values.append(by_flag["value"])
    if name == "wsgi_app":
        by_flag = shown(config("--json", text, cwd=tmp_path, environment=needs), name)
        assert by_flag["source"] == "command line"

    variable = f"PORTICO_{ours(name).upper()}"
    by_variable = shown(config("--json", cwd=tmp_path, environment=needs | {variable: text}), name)
    assert (by_variable["source"], by_variable["variable"]) == ("environment", variable)
    values.append(by_variable["value"])

    for key in sorted({name, ours(name)}):
        (tmp_path / "portico.toml").write_text(f"\n{key} = {toml(name, text)}\n")
        by_file = shown(config("--json", cwd=tmp_path, environment=needs), name)
        assert (by_file["source"], by_file["file"], by_file["line"]) == ("file", "portico.toml", 2)
        values.append(by_file["value"])
    (tmp_path / "portico.toml").unlink()

    (tmp_path / "gunicorn.conf.py").write_text(f"\n{name} = {python(name, text)}\n")
    by_python = shown(config("--json", cwd=tmp_path, environment=needs), name)
    assert (by_python["source"], by_python["file"], by_python["line"]) == ("file", "gunicorn.conf.py", 2)

    assert all(value == values[0] for value in values), values
    default = shown(config("--json", cwd=TESTS, environment=needs), name)
    assert default["value"] != values[0]


def python(name: str, text: str) -> str:
    """`text` as gunicorn.conf.py has it."""
    if name == "secure_scheme_headers":
        return repr(dict([text.split("=")]))
    if is_switch(name):
        return text.title()
    return text if text.isdigit() and not text.startswith("0") else repr(text)


@pytest.mark.parametrize(("name", "grade", "options"), OTHERS)
def test_what_does_nothing_is_told(name, grade, options, tmp_path):
    ways = [([option, "x"], {}) for option in options] + [([option], {}) for option in options]
    ways.append(([], {f"PORTICO_{name.upper()}": "x"}))
    told = []
    for arguments, environment in ways:
        process = config(*arguments, cwd=tmp_path, environment=environment)
        if process.returncode == 0 and name in SILENT:
            continue
        told.append(process.stderr)
        if process.returncode == 0:
            # The context matters where TLS is spoken; what makes one is refused there.
            assert grade == "C" or name == "ssl_context", f"{name} is ignored"
    (tmp_path / "portico.toml").write_text(f'{name} = "x"\n')
    by_file = config(cwd=tmp_path)
    if name not in SILENT:
        told.append(by_file.stderr)
        assert f"portico.toml:1:1: {name}" in by_file.stderr
    for text in told:
        told_so = ("has no effect", "does nothing", "portico: error: ")
        assert any(words in text for words in told_so), text
