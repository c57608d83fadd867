"""Synthesis of labelled data sets by the four steps of TarGEN (arXiv 2310.17876)."""

__version__ = "0.1.0"
