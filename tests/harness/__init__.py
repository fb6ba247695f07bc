"""What the tests stand on: server processes, a strict HTTP/1 client, a meeting place with applications."""
