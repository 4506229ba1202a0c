"""Sweeps: what to run, in which order, where; and the command line."""
