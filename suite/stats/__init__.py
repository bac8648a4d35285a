"""Statistics of comparison, in numpy and scipy."""
