"""The analyses as figures."""
