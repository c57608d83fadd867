"""The four steps: prompts, slots, attempts, candidates, until the labels are balanced."""
