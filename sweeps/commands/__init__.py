"""The commands of `safesweep`. Every module here adds its own parsers in `register(commands)`."""
