"""What a model is worth and what it needs: perplexity, memory, and where two runs part."""

from gradient.evaluation.divergence import Difference, Divergence, activations, compare
from gradient.evaluation.perplexity import Perplexity, perplexity

__all__ = ["Difference", "Divergence", "Perplexity", "activations", "compare", "perplexity"]
