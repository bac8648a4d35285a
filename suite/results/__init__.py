"""From files on disk to records, without torch."""
