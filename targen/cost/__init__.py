"""What a run will ask and cost, and what it has cost."""
