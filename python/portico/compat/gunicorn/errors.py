"""gunicorn.errors"""


class HaltServer(BaseException):
    """Raised to stop the server."""

    def __init__(self, reason: str, exit_status: int = 1) -> None:
        super().__init__(reason, exit_status)
        self.reason = reason
        self.exit_status = exit_status


class ConfigError(Exception):
    """The configuration cannot be used."""


class AppImportError(Exception):
    """The application cannot be imported."""
