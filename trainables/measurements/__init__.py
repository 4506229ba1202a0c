"""What ablations measure on trained runs, a file a paper, and confirmations."""
