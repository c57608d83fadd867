"""What several tests share: commands, fakes, small data, runs with scores."""
