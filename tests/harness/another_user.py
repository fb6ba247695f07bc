"""Servers whose workers are another user's: what that takes, and folders that root alone can change."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")

# The tests' Python may lie in root's home, which nobody else may enter: in a mount namespace of its own a
# folder that everybody may enter stands in its place, with Python in it.
OPEN_UP = r"""
set -e
python=$1
shift
top=/$(cut -d/ -f2 <<< "$python")
if ! setpriv --reuid 65534 --clear-groups test -x "$python/bin"; then
    mount --make-rprivate /
    place=$(mktemp -d)
    mount --bind "$python" "$place"
    mount -t tmpfs -o mode=755 none "$top"
    mkdir -p "$python"
    mount --move "$place" "$python"
    rmdir "$place"
fi
exec "$@"
"""
OPENED_UP = ("unshare", "--mount", "bash", "-c", OPEN_UP, "bash", sys.base_prefix)
# Where root alone can change folders, unlike in everybody's /tmp.
ROOTS = Path("/var/lib")
