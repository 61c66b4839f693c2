"""Folders of the checkout that tests read."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
GOLDEN = CHECKOUT / "tests" / "golden"
"""Tiny random checkpoints of transformers, with their logits; the scripts beside them made them."""
EXAMPLES = CHECKOUT / "examples"
