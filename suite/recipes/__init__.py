"""Recipes that come with the package, as YAML beside this file."""
