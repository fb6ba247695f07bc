"""An application whose import does not come to its end."""

from apps.meeting import rendezvous


def wait_for_something():
    """Where it hangs."""
    rendezvous.hold("import")


wait_for_something()
application = None
