"""The tables of results: their schema, identities, writing, compaction, imports."""
