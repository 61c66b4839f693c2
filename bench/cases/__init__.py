"""The cases that `python -m bench` can run: one module each.

A case module has `run(options) -> Iterator[Result]`. It runs in its own process, whose thread
pools are limited before NumPy is imported, so that cases do not affect each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench import roofline
from bench.machine import installed
from bench.roofline import Roofline


@dataclass(frozen=True)
class Options:
    """What the command line chose for a case."""

    threads: int
    quick: bool = False
    tiny: bool = False
    large: bool = False
    peers: bool = True
    only: str | None = None

    def wants(self, what: str) -> bool:
        """Whether to measure this: always, unless names are given and none is a part of `what`."""
        return self.only is None or self.only.lower() in what.lower()

    def peer(self, module: str) -> bool:
        """Whether to measure this peer: it is wanted, and installed."""
        return self.peers and installed(module)

    def rounds(self, usual: int) -> int:
        if self.tiny:
            return 1
        return max(3, usual // 5) if self.quick else usual

    def roofline(self) -> Roofline:
        """The machine's limits; at --tiny from probes too small to be meaningful."""
        return roofline.measure(self.threads, *((1 << 20, 64) if self.tiny else ()))


@dataclass(frozen=True)
class Case:
    """A case's module in this package, what it measures, and the threads it is defined for."""

    module: str
    summary: str
    threads: int | None = None  # None: as many as the machine has
    seconds: float | None = None  # then its process is ended; earlier results are kept


CASES = {
    "import": Case("import_time", "CPU time of `import gradient` beyond numpy's", 1),
    "cold": Case("cold_start", "a first text and a first training step, kernels on disk or not", 1),
    "ops": Case("op_overhead", "the cost of one small op beyond NumPy", 1),
    "calls": Case("small_calls", "common calls on small tensors", 1),
    "ops60": Case("op_table", "218 operations at the shapes of common models, and their gradients"),
    "backward": Case("small_backward", "forward and backward of a small expression", 1),
    "vmap": Case("transforms", "gradients of samples, Jacobians and ensembles"),
    "threads": Case("threads", "the cost of passing work to threads"),
    "plugin": Case("plugin", "a device in another process: queued ops, copies, replayed steps"),
    "kernels": Case("kernels", "the CPU's kernels, one by one (--large: GPT-2 124M's shapes)"),
    "gpu": Case(
        "gpu", "an NVIDIA GPU: models and kernels, beside PyTorch's, cuBLAS and a copy", seconds=525
    ),
    "gpu-step": Case(
        "gpu_step", "the kernels of a decoding step on a GPU, by PyTorch's profiler", seconds=300
    ),
    "gpu-host": Case("gpu_host", "the host's time for calls on a GPU, measured without one", 1),
    "packed": Case("packed", "packed weights: unpacking, packing, products (--large: LLaMA 7B's)"),
    "weights": Case("weights", "a row by weights of each format, from the cache and memory", 1),
    "dense": Case("dense", "float weights and the cache: linear and attention of one row and many"),
    "matmul": Case(
        "matmul", "float32 products of training steps, beside other libraries and the peak"
    ),
    "step": Case("train_step", "one training step of a GPT (--large: GPT-2 124M's shape)"),
    "compile": Case("compile", "compiled training steps, and the Python of a replay", 1),
    "training": Case(
        "training", "training steps of ten models, eager and compiled (--large: GPT-2 124M, too)"
    ),
    "models": Case(
        "further_training", "training steps of other kinds of models, eager and compiled"
    ),
    "training-memory": Case("training_memory", "peak memory of the same steps"),
    "checkpointing": Case("checkpointing", "the cost of recomputed activations in training"),
    "mnist": Case("mnist", "examples/digits_cnn.py on MNIST: its time and test accuracy"),
    "decode": Case("decode", "greedy tokens with the cache (--large: GPT-2 124M's shape)"),
    "replay": Case("replayed_steps", "the Python of a replayed decoding step, and recording it"),
    "speculative": Case("speculative", "prompt lookup against plain decoding"),
    "llama.cpp": Case(
        "llama_cpp", "GGUF files: decoding and prompts, beside llama.cpp (--large: 1.1B)"
    ),
    "logits": Case(
        "logits", "how far logits of packed weights are from exact ones, as llama.cpp's"
    ),
    "data": Case("data_loading", "epochs of DataLoader over images and a file of tokens"),
    "load": Case("load_memory", "time and peak memory of loading a model file"),
}
