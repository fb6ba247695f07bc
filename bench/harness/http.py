"""A response reader without I/O, and the requests that our own clients send."""


def get(path, *, close=False):
    """The bytes of a GET request."""
    connection = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{connection}\r\n".encode()


class ResponseReader:
    """Reads one response after the other from the bytes it is fed (RFC 9112, section 6.3).

    Framing by Content-Length, by chunks without trailers, or by the end of the connection.
    """

    def __init__(self):
        self._buffer = bytearray()
        self._begin()

    def _begin(self):
        self.status, self.keep_alive, self.body_bytes = 0, True, 0
        self._in_body, self._chunked, self._remaining = False, False, None

    def feed(self, data):
        """Take bytes; return True when a response is complete. `next_response` then starts the next."""
        self._buffer += data
        if not self._in_body and not self._read_head():
            return False
        if self._chunked:
            return self._read_chunks()
        taken = len(self._buffer) if self._remaining is None else min(self._remaining, len(self._buffer))
        del self._buffer[:taken]
        self.body_bytes += taken
        if self._remaining is None:
            return False
        self._remaining -= taken
        return self._remaining == 0

    def ends_at_close(self):
        """True if the end of the connection completes the response being read."""
        return self._in_body and not self._chunked and self._remaining is None

    def next_response(self):
        self._begin()

    def _read_head(self):
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        self.status = int(lines[0].split(b" ", 2)[1])
        self.keep_alive = lines[0].startswith(b"HTTP/1.1")
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip().lower()
            if name == b"content-length":
                self._remaining = int(value)
            elif name == b"transfer-encoding":
                self._chunked = value == b"chunked"
            elif name == b"connection" and value in (b"close", b"keep-alive"):
                self.keep_alive = value == b"keep-alive"
        self._in_body = True
        return True

    def _read_chunks(self):
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size = int(bytes(self._buffer[:end]).partition(b";")[0], 16)
            if len(self._buffer) < end + 2 + size + 2:
                return False
            del self._buffer[: end + 2 + size + 2]
            self.body_bytes += size
            if size == 0:
                return True
        return False
