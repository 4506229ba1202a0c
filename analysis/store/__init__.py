"""Reading a result store."""
