"""Language models, one file per architecture family; `gradient.checkpoints` loads them."""

from typing import TYPE_CHECKING

from gradient.exports import public
from gradient.models import registry
from gradient.models.causal_lm import *
from gradient.models.config import *
from gradient.models.encoder import *
from gradient.models.pretrained import *
from gradient.models.registry import *

if TYPE_CHECKING:  # the families' classes, which are imported when first named
    from gradient.models.bert import *
    from gradient.models.deepseek_v2 import *
    from gradient.models.distilbert import *
    from gradient.models.falcon import *
    from gradient.models.gemma import *
    from gradient.models.glm4 import *
    from gradient.models.gpt2 import *
    from gradient.models.gpt_neo import *
    from gradient.models.gpt_neox import *
    from gradient.models.granite import *
    from gradient.models.llama import *
    from gradient.models.llama_moe import *
    from gradient.models.olmo2 import *
    from gradient.models.opt import *
    from gradient.models.phi import *
    from gradient.models.phi3 import *
    from gradient.models.roberta import *
    from gradient.models.smollm3 import *
    from gradient.models.stablelm import *
    from gradient.models.starcoder2 import *
else:
    __all__ = [*public(globals()), *registry.LATE]


def __getattr__(name: str) -> type:
    if name not in registry.LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = registry.imported(*registry.LATE[name])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *registry.LATE})
