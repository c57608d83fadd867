"""What a notebook uses, by `import targen`: tasks, generation, rows."""
