"""One experiment per file, read top to bottom."""
