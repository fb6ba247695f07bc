"""A container: everything to standard output, numbers from the environment."""

import json
import multiprocessing
import os

workers_per_core = float(os.getenv("WORKERS_PER_CORE", "1"))
cores = multiprocessing.cpu_count()
web_concurrency = max(int(workers_per_core * cores), 2)
host = os.getenv("HOST", "127.0.0.1")
port = os.getenv("PORT", "0")
use_loglevel = os.getenv("LOG_LEVEL", "info")
accesslog_var = os.getenv("ACCESS_LOG", "-")
use_accesslog = accesslog_var or None
errorlog_var = os.getenv("ERROR_LOG", "-")
use_errorlog = errorlog_var or None
graceful_timeout_str = os.getenv("GRACEFUL_TIMEOUT", "20")

loglevel = use_loglevel
workers = web_concurrency
bind = f"{host}:{port}"
errorlog = use_errorlog
worker_tmp_dir = "/dev/shm"
accesslog = use_accesslog
graceful_timeout = int(graceful_timeout_str)
timeout = int(os.getenv("TIMEOUT", "120"))
keepalive = int(os.getenv("KEEP_ALIVE", "5"))

log_data = {"loglevel": loglevel, "workers": workers, "bind": bind}
print(json.dumps(log_data), flush=True)
