"""The tasks of the OpenLLM leaderboard, through lm-evaluation-harness."""
