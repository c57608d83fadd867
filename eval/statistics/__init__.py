"""How sure a score and a difference are."""
