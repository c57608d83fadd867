"""Scores as tables in Markdown, LaTeX and CSV."""
