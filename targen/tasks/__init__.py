"""What a task is, and the tasks whose official format needs code."""
