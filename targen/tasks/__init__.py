"""The official formats of the tasks, where they need code. One module a task, named as the task."""
