"""Fills the Hub's cache with what an experiment needs: `targen fetch` from a checkout that is not installed."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project that this script lies in
runpy.run_module("eval.fetch", run_name="__main__")
