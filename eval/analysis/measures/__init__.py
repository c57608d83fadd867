"""What is measured in the data."""
