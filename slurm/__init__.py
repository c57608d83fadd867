"""A run as SLURM jobs: submitted, watched, resumed."""
