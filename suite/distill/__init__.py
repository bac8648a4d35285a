"""Batches -> losses -> a trained student."""
