"""Composed defaults: all methods that a backend need not define, in terms of the required ones."""
