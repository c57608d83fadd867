"""The parts of a command line that Hydra's users know: its flags, sweeps, completion."""
