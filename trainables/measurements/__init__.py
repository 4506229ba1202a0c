"""What ablations measure on trained runs, and confirmations."""
