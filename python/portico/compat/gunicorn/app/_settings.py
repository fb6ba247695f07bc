"""The settings of the server that runs, as a configuration file has them: executed anew at each reload."""

from portico.compat.gunicorn.app import base as _base

assert _base.BaseApplication.running is not None
if "_RELOADED" in globals():
    _base.BaseApplication.running.do_load_config()
_RELOADED = True

# What a former execution has left is no setting any more.
for _name in [name for name in globals() if not name.startswith("_")]:
    del globals()[_name]
globals().update(_base.BaseApplication.running.cfg.said)
