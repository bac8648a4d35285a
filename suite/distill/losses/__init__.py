"""Training objectives, one a file; `registry.py` lists them."""
