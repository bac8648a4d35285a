"""Checkpoints over time: series, pinned references, and the gate between them."""
