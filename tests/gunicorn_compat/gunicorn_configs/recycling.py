"""Against leaks: workers are replaced."""

max_requests = 5
max_requests_jitter = 0
graceful_timeout = 5
