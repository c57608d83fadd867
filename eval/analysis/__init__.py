"""What is in the data: two data sets of one task side by side, at equal size, with intervals."""
