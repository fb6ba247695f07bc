"""The settings as hooks and logger classes see them: by gunicorn's names, as values of Python."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from portico._gunicorn.hooks import HOOKS

ACCESS_LOG_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

# gunicorn's defaults, which also say of which type a value is. Portico's own are laid over them.
DEFAULTS: dict[str, Any] = {
    "config": "./gunicorn.conf.py",
    "wsgi_app": None,
    "bind": ["127.0.0.1:8000"],
    "backlog": 2048,
    "workers": 1,
    "worker_class": "sync",
    "threads": 1,
    "worker_connections": 1000,
    "max_requests": 0,
    "max_requests_jitter": 0,
    "timeout": 30,
    "graceful_timeout": 30,
    "keepalive": 2,
    "limit_request_line": 4094,
    "limit_request_fields": 100,
    "limit_request_field_size": 8190,
    "reload": False,
    "reload_engine": "auto",
    "reload_extra_files": [],
    "spew": False,
    "check_config": False,
    "print_config": False,
    "preload_app": False,
    "sendfile": None,
    "reuse_port": False,
    "chdir": "",
    "daemon": False,
    "raw_env": [],
    "pidfile": None,
    "worker_tmp_dir": None,
    "user": None,
    "group": None,
    "umask": 0,
    "initgroups": False,
    "tmp_upload_dir": None,
    "secure_scheme_headers": {
        "X-FORWARDED-PROTOCOL": "ssl",
        "X-FORWARDED-PROTO": "https",
        "X-FORWARDED-SSL": "on",
    },
    "forwarded_allow_ips": ["127.0.0.1", "::1"],
    "accesslog": None,
    "disable_redirect_access_to_syslog": False,
    "access_log_format": ACCESS_LOG_FORMAT,
    "errorlog": "-",
    "loglevel": "info",
    "capture_output": False,
    "logger_class": "gunicorn.glogging.Logger",
    "logconfig": None,
    "logconfig_dict": {},
    "logconfig_json": None,
    "syslog_addr": "udp://localhost:514",
    "syslog": False,
    "syslog_prefix": None,
    "syslog_facility": "user",
    "enable_stdio_inheritance": False,
    "statsd_host": None,
    "dogstatsd_tags": "",
    "statsd_prefix": "",
    "enable_backlog_metric": False,
    "proc_name": None,
    "default_proc_name": "gunicorn",
    "pythonpath": None,
    "paste": None,
    "proxy_protocol": "off",
    "proxy_allow_ips": ["127.0.0.1", "::1"],
    "protocol": "http",
    "uwsgi_allow_ips": ["127.0.0.1", "::1"],
    "keyfile": None,
    "certfile": None,
    "ssl_version": None,
    "cert_reqs": 0,
    "ca_certs": None,
    "suppress_ragged_eofs": True,
    "do_handshake_on_connect": False,
    "ciphers": None,
    "http_protocols": ["h1"],
    "http2_cleartext": "off",
    "http2_max_concurrent_streams": 100,
    "http2_initial_window_size": 65535,
    "http2_max_frame_size": 16384,
    "http2_max_header_list_size": 65536,
    "raw_paste_global_conf": [],
    "permit_obsolete_folding": False,
    "strip_header_spaces": False,
    "permit_unconventional_http_method": False,
    "permit_unconventional_http_version": False,
    "casefold_http_method": False,
    "forwarder_headers": ["SCRIPT_NAME", "PATH_INFO"],
    "header_map": "drop",
    "asgi_loop": "auto",
    "asgi_lifespan": "auto",
    "asgi_disconnect_grace_period": 3,
    "websocket_max_message_size": 16777216,
    "http_parser": "auto",
    "root_path": "",
    "dirty_apps": [],
    "dirty_workers": 0,
    "dirty_timeout": 300,
    "dirty_threads": 1,
    "dirty_graceful_timeout": 30,
    "control_socket": None,
    "control_socket_mode": 0o600,
    "control_socket_disable": True,
    "ssl_context": None,
    "on_dirty_starting": None,
    "dirty_post_fork": None,
    "dirty_worker_init": None,
    "dirty_worker_exit": None,
}


# Between the items of a list; a backslash makes it one of an item's own.
COMMA = re.compile(r"(?<!\\),")

# Lists whose items are said one by one.
ONE_BY_ONE = ("raw_env", "raw_paste_global_conf")

# What counts of each setting: gunicorn's name for it, its texts, and whether the file has said them.
Effective = Iterable[tuple[str, list[str], bool]]


class Setting:
    """One setting: `get()`, and the same as `value`."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.default = value
        self.value = value

    def get(self) -> Any:
        """Its value."""
        return self.value

    def set(self, value: Any) -> None:
        """Changes what is read here; the server goes by what it was started with."""
        self.value = value

    def __repr__(self) -> str:
        return f"<setting {self.name}: {self.value!r}>"


class Config:
    """gunicorn's `cfg`: each setting as an attribute, and `settings` with all of them."""

    settings: dict[str, Setting]

    def __init__(self, effective: Effective, said: Mapping[str, Any]) -> None:
        """`effective` has the texts that count, and whether they are a file's, whose objects are `said`."""
        self.__dict__["settings"] = {name: Setting(name, value) for name, value in DEFAULTS.items()}
        self.__dict__["env_orig"] = dict(os.environ)
        for name in HOOKS:
            self.settings[name] = Setting(name, nothing)
        for name, texts, is_files in effective:
            setting = self.settings.setdefault(name, Setting(name, None))
            if is_files and name in said:
                setting.value = from_object(said[name], setting.default)
            elif name in ONE_BY_ONE:
                setting.value = texts
            elif name not in HOOKS and texts:
                setting.value = from_texts(texts, setting.default)
        if "%" not in (self.settings["access_log_format"].value or ""):
            # A word of Portico's: nobody has said a format, but perhaps the file, for a logger of its own.
            self.settings["access_log_format"].value = said.get("access_log_format", ACCESS_LOG_FORMAT)
        self.settings["chdir"].value = self.settings["chdir"].value or os.getcwd()
        user, group = self.settings["user"], self.settings["group"]
        user.value = os.geteuid() if user.value is None else user.value
        group.value = os.getegid() if group.value is None else group.value

    def __getattr__(self, name: str) -> Any:
        try:
            return self.settings[name].get()
        except KeyError:
            raise AttributeError(f"there is no setting {name}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.settings:
            raise AttributeError(f"{name} is a setting: use cfg.set()")
        super().__setattr__(name, value)

    def __str__(self) -> str:
        width = max(len(name) for name in self.settings)
        return "\n".join(f"{name:{width}} = {self.settings[name].value}" for name in sorted(self.settings))

    def set(self, name: str, value: Any) -> None:
        """Changes what is read here."""
        if name not in self.settings:
            raise AttributeError(f"there is no setting {name}")
        self.settings[name].set(value)

    @property
    def worker_class_str(self) -> str:
        """`sync`, or `gthread` where there are threads."""
        name = self.settings["worker_class"].value
        name = name if isinstance(name, str) else name.__name__
        return "gthread" if name in ("sync", "gthread") and self.threads > 1 else name

    @property
    def is_ssl(self) -> Any:
        """Whether TLS is configured."""
        return self.certfile or self.keyfile

    @property
    def env(self) -> dict[str, str]:
        """`raw_env` as a dictionary."""
        return dict(entry.partition("=")[::2] for entry in self.raw_env)

    @property
    def address(self) -> list[Any]:
        """What `bind` names: (host, port), a path, or a descriptor."""
        return [address(text) for text in self.bind]

    @property
    def uid(self) -> Any:
        """The user of the workers."""
        return self.user

    @property
    def gid(self) -> Any:
        """The group of the workers."""
        return self.group

    @property
    def proc_name(self) -> str:
        """The name of the processes."""
        return str(self.settings["proc_name"].value or self.settings["default_proc_name"].value)

    @property
    def statsd_host(self) -> tuple[str, int] | str | None:
        """Host and port, or the path of a socket."""
        text = self.settings["statsd_host"].value
        if not isinstance(text, str) or not text:
            return text or None
        if text.startswith("unix:"):
            return text.removeprefix("unix:").removeprefix("//")
        host, _, port = (text if text.rpartition(":")[2].isdigit() else f"{text}:8125").rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def sendfile(self) -> bool:
        """Whether the kernel sends files."""
        return self.settings["sendfile"].value is not False

    @property
    def ssl_options(self) -> dict[str, Any]:
        """The settings of TLS."""
        names = ("keyfile", "certfile", "ssl_version", "cert_reqs", "ca_certs", "ciphers")
        return {name: self.settings[name].value for name in names}


def nothing(*_arguments: Any) -> None:
    """A hook that is not configured."""


def from_texts(texts: list[str], default: Any) -> Any:
    """What the texts of a setting are, of a type like that of its default."""
    if isinstance(default, list):
        parts = (part.replace("\\,", ",").strip() for text in texts for part in COMMA.split(text))
        return [part for part in parts if part]
    readers: list[tuple[type, Callable[[str], Any]]] = [
        (bool, lambda text: text.lower() in ("true", "1", "yes", "on")),
        (int, number),
        (dict, lambda text: dict(pair.partition("=")[::2] for pair in COMMA.split(text))),
    ]
    for kind, read in readers:
        if isinstance(default, kind):
            try:
                return read(texts[-1])
            except ValueError:
                return default  # Portico's own words, such as `10 %`.
    return texts[-1]


def from_object(value: Any, default: Any) -> Any:
    """What a file in Python has said, in the form that gunicorn gives it."""
    if isinstance(default, list):
        items = value.split(",") if isinstance(value, str) else value
        return [item.strip() if isinstance(item, str) else item for item in items]
    if isinstance(value, str) and default is not None and not isinstance(default, str):
        return from_texts([value], default)
    return value


def number(text: str) -> int | float:
    """A number, as the table of settings has it: perhaps with the `s` of seconds."""
    text = text.removesuffix("s")
    return int(text) if text.isdigit() else float(text)


def address(text: str) -> Any:
    """What one `bind` names, in gunicorn's form."""
    text = text.partition("?")[0].removeprefix("tcp://").removeprefix("http://")
    if text.startswith("unix:"):
        return text.removeprefix("unix:").removeprefix("//") or text
    if text.startswith("fd://"):
        return int(text[5:]) if text[5:].isdigit() else text[5:]
    host, _, port = text.rpartition(":")
    return (host.strip("[]").lower() or "0.0.0.0", int(port)) if port.isdigit() else (text, 8000)
