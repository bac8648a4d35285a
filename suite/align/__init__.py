"""Two encodings of one text -> chunks, training rows and groups."""
