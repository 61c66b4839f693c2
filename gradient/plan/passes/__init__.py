"""Passes: small pure functions from plan to plan, one per file.

They keep results bit-identical, except `with_fused_chains` (unless `exact`) and `with_activations`,
which change the rounding.
"""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient.plan.passes.activations import *
from gradient.plan.passes.augmented import *
from gradient.plan.passes.cache_updates import *
from gradient.plan.passes.constants import *
from gradient.plan.passes.copies import *
from gradient.plan.passes.dead import *
from gradient.plan.passes.early_reads import *
from gradient.plan.passes.fusion import *
from gradient.plan.passes.order import *
from gradient.plan.passes.projections import *
from gradient.plan.passes.repeats import *
from gradient.plan.passes.rope_attention import *
from gradient.plan.passes.simplified import *
from gradient.plan.passes.widening import *

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = _public(globals())
