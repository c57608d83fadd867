"""What a notebook uses, by `import eval`: scores and runs."""
