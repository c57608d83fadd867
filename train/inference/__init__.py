"""Asking models that answer in words."""
