"""Measures gradient beside its peers: `python -m bench` (bench/README.md says what and how)."""
