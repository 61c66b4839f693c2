"""Reading and writing tensors: safetensors, GGUF, structures of them, training checkpoints."""

from gradient.io.atomic import atomic_folder, atomic_write
from gradient.io.checkpoint import (
    TrainingCheckpoint,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_latest,
    rename_damaged,
    save_checkpoint,
)
from gradient.io.gguf import GGUFFile
from gradient.io.safetensors import SafetensorsFile, load_file, save_file
from gradient.io.serialization import load, save
from gradient.io.sharded import ShardedFiles, open_sharded, save_sharded
from gradient.io.torch_file import TorchFile

__all__ = [
    "TrainingCheckpoint",
    "GGUFFile",
    "SafetensorsFile",
    "ShardedFiles",
    "TorchFile",
    "atomic_folder",
    "atomic_write",
    "find_checkpoint",
    "list_checkpoints",
    "load",
    "load_checkpoint",
    "load_file",
    "load_latest",
    "open_sharded",
    "save",
    "save_checkpoint",
    "save_file",
    "save_sharded",
    "rename_damaged",
]
