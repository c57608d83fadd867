"""Tasks whose official format needs code: one module a task, named as the task, with one subclass of `Task`."""
