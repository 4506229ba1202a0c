"""Offline datasets: their format, where they are found, fetched, collected."""
