"""What a sweep comprises, searches for, stops early and carries on."""
