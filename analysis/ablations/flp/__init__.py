"""FLP's ablations."""
