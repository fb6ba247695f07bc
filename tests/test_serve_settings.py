"""What `portico.serve` makes of keyword arguments that are not text."""

from __future__ import annotations

import pytest

import portico


def application(environ, start_response):
    raise AssertionError("nothing is served here")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"socket_mode": 0o1777}, 'socket_mode: "1777" is not a file mode'),
        ({"threads": True}, 'threads: "true" is not a whole number'),
        ({"keepalive": 5}, "did you mean keep_alive?"),
        ({"bind": ["127.0.0.1:http"]}, 'bind: "127.0.0.1:http"'),
    ],
)
def test_a_wrong_setting_is_a_value_error_that_names_it(settings, message):
    with pytest.raises(ValueError, match=r".*") as raised:
        portico.serve(application, **settings)
    assert message in str(raised.value)


def test_numbers_are_read_as_python_means_them(capfd):
    # `check_config` resolves everything and opens nothing.
    portico.serve(
        application, socket_mode=0o660, threads=2, sendfile=False, keep_alive=1.5, check_config=True
    )
    assert "The configuration is good" in capfd.readouterr().err
