"""Text for checks and tables: normalised words, similarity, Markdown."""
