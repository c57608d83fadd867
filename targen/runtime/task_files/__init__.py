"""Task files of the user's own, beside those of conf/task."""
