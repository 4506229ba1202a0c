"""SafeFQL's ablations."""
