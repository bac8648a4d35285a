"""Where weights come from: sources, the local cache, fingerprints, loading."""
