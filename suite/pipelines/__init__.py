"""One module a command; the only layer that may import all others."""
