"""Stand-ins for what other servers' users import."""
