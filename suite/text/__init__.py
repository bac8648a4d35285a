"""Text -> ids that know their bytes."""
