"""Language models: one file per architecture family, loaded from Hugging Face checkpoints.

>>> model = gradient.models.load_model("folder/with/config.json/and/safetensors")
>>> gradient.models.save_model(model, "folder")
"""

from gradient.models.causal_lm import CausalLM
from gradient.models.config import ModelConfig
from gradient.models.encoder import EncoderModel
from gradient.models.gguf.save import save_gguf
from gradient.models.gpt2 import GPT2Config, GPT2LMHeadModel
from gradient.models.loading import load_model, save_model
from gradient.models.pretrained import PretrainedModel
from gradient.models.registry import model_class, register_model, supported_models

__all__ = [
    "CausalLM",
    "EncoderModel",
    "GPT2Config",
    "GPT2LMHeadModel",
    "ModelConfig",
    "PretrainedModel",
    "load_model",
    "model_class",
    "register_model",
    "save_gguf",
    "save_model",
    "supported_models",
]
