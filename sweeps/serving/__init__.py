"""The pages of a store, served over HTTP: `safesweep serve`."""
