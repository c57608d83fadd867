"""The study of what makes synthetic data good: small students taught sets that differ in one thing."""
