"""Benchmarks of gradient and its peers: `python -m bench` (described in bench/README.md)."""
