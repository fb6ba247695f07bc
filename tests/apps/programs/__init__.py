"""Programs that tests run beside or instead of the command."""
