"""The resolved configuration as frozen, checked values, and the rules that they must follow."""
