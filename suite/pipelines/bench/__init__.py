"""Measurements behind the figures this project states; each writes a file."""
