"""Reading results: the store, selection, statistics, claims, ablations."""
