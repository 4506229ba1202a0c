"""Networks and losses that several methods share, each written once."""
