"""Composed defaults: every method that a backend need not supply, written in those that it must."""
