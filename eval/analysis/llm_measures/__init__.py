"""What analyses ask the run's generator: clusters of texts, and how far a label is a matter of opinion."""
