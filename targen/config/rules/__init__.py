"""Settings that are fine alone and wrong together."""
