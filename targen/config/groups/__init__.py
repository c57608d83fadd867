"""The settings of each config group as frozen, checked data."""
