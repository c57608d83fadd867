"""Archives for the SuperGLUE leaderboard."""
