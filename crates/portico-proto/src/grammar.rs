//! Character classes of RFC 9110 and RFC 3986 with their ABNF beside them.
