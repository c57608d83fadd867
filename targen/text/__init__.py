"""Text as the checks see it: normalised words, and similarity."""
