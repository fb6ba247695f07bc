"""The formula of the documentation."""

import multiprocessing

workers = multiprocessing.cpu_count() * 2 + 1
threads = 2
worker_class = "gthread"
