"""Datasets, samplers and loaders, and token files for language models (PyTorch's `utils.data`)."""

from gradient.data.collate import default_collate, default_convert
from gradient.data.dataloader import DataLoader
from gradient.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from gradient.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from gradient.data.token_file import (
    TokenFile,
    TokenWindows,
    TokenWriter,
    encode_corpus,
    read_texts,
)
from gradient.data.worker import WorkerInfo, get_worker_info

__all__ = [
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "TokenFile",
    "TokenWindows",
    "TokenWriter",
    "WeightedRandomSampler",
    "WorkerInfo",
    "default_collate",
    "default_convert",
    "encode_corpus",
    "get_worker_info",
    "random_split",
    "read_texts",
]
