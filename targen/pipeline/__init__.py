"""Runs the phases of a run, one after another."""
