"""What the ablations share."""
