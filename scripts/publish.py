"""Uploads a run's synthetic data set to the Hugging Face Hub: `targen publish` from a checkout that is not installed."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project that this script lies in
runpy.run_module("targen.publish", run_name="__main__")
