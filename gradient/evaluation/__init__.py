"""What a model is worth and what it needs: perplexity, memory, and where two runs part."""

from gradient.evaluation.divergence import Difference, Divergence, compare, run
from gradient.evaluation.perplexity import Perplexity, perplexity

__all__ = ["Difference", "Divergence", "Perplexity", "compare", "perplexity", "run"]
