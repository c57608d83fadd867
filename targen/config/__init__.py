"""The resolved configuration as frozen, checked values, and what contradicts what."""
