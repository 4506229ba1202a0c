"""Choosing among configurations under a safety constraint."""
