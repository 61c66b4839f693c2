"""Probability distributions, with PyTorch's names: draws, densities, moments, divergences.

>>> from gradient.distributions import Categorical, Normal
>>> policy = Categorical(logits=network(state))
>>> action = policy.sample()
>>> loss = -policy.log_prob(action) * reward

Draws come from the default generator (`manual_seed`). Each module's `__all__` lists its public
names.
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient._exports import shown as _shown
from gradient.distributions import constraints as constraints
from gradient.distributions import transforms as transforms
from gradient.distributions.categorical import *
from gradient.distributions.constraint_registry import *
from gradient.distributions.continuous import *
from gradient.distributions.continuous_bernoulli import *
from gradient.distributions.counting import *
from gradient.distributions.distribution import *
from gradient.distributions.exponential_family import *
from gradient.distributions.gamma import *
from gradient.distributions.kl import *
from gradient.distributions.kl_between import *
from gradient.distributions.matrices import *
from gradient.distributions.multivariate_normal import *
from gradient.distributions.normal import *
from gradient.distributions.of_simpler import *
from gradient.distributions.relaxed import *
from gradient.distributions.transformed import *
from gradient.distributions.transforms import *

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
    __dir__ = _shown(globals(), "constraints", "transforms")
