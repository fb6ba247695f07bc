"""The command where PasteDeploy is not installed."""

import sys

sys.modules["paste.deploy"] = None

from portico.__main__ import main  # noqa: E402

sys.exit(main())
