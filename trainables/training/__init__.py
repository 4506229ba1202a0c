"""Training populations of runs."""
