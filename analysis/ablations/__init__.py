"""The ablations of the papers as data, a folder a paper."""
