"""The base class for `logger_class`."""

from portico._logger import CONFIG_DEFAULTS, Logger, SafeAtoms

__all__ = ["CONFIG_DEFAULTS", "Logger", "SafeAtoms"]
