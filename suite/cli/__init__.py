"""Click only: parse, build a config, call one pipeline, print."""
