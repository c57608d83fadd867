"""What every phase stands on: the command line, errors, files, paths, locks, signals and child processes."""
