"""Records become files: one table as Markdown, LaTeX, CSV, JSON, HTML and console text."""
