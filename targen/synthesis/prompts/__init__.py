"""The prompts of the four steps, and the checks of their templates."""
