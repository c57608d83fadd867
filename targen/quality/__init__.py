"""How good a data set is, without original rows: what small students learn from it."""
