"""Trained policies outside a sweep: loaded from a store, exported, and filmed."""
