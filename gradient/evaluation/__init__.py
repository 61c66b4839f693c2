"""What a model is worth and what it needs: perplexity, memory, and where two runs part."""

from gradient.evaluation.divergence import *
from gradient.evaluation.perplexity import *
