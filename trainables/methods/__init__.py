"""The methods, one a file, and their registry."""
