"""`train`: a whole run, new or resumed, from its text to the exported model."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any

import gradient
from gradient import backends
from gradient.dtypes.names import floating_dtype
from gradient.errors import ArgumentError, CheckpointError, MissingDependency
from gradient.io.checkpoint import list_checkpoints, load_latest, rename_damaged
from gradient.io.lock import FolderLock
from gradient.training import corpus as corpora
from gradient.training.config import CONFIG, TrainConfig
from gradient.training.memory import check_memory
from gradient.training.metrics import MetricsFile, TensorBoardEvents, loss_curve, read_metrics
from gradient.training.model import export_model
from gradient.training.reporters import Reporter, Reporters
from gradient.training.trainer import Trainer

__all__ = ["TrainResult", "train"]


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    `finished` is False if it was stopped before its end; `train(config, resume=True)` resumes it.
    Losses are in nats per token, `elapsed` is in seconds.
    """

    out: Path
    model: Path  # the folder of the exported model
    step: int
    tokens: int  # trained on, repetitions counted
    elapsed: float
    train_loss: float  # mean over the last steps
    val_loss: float | None  # of the best checkpoint, which is the one exported
    finished: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values; paths as strings."""
        values = dataclasses.asdict(self)
        return {key: str(v) if isinstance(v, Path) else v for key, v in values.items()}


def train(
    config: TrainConfig, *, resume: bool = False, reporter: Reporter | None = None
) -> TrainResult:
    """Train a language model on text or chats, and export it as a folder in Hugging Face's layout.

    `config.out` receives train.json (the config), the tokenised text (data/), checkpoints/,
    metrics.jsonl, loss.png, TensorBoard's events (tensorboard/) and, when the run ends or is
    stopped, the best model by validation loss (model/), which `gradient.hub.load` and
    transformers read.

    After Ctrl-C (in the main thread) the step is finished and a checkpoint is saved. The same
    happens if a reporter's output pipe is closed; then BrokenPipeError is raised at the end.

    Args:
        config: the config of the run.
        resume: resume from the latest checkpoint in `config.out`. The weights of a resumed run are
            bit-identical to those of an uninterrupted one.
        reporter: receives the events of the run.

    Raises:
        ArgumentError: there is no text; `config.out` has a run and `resume` is False; or `resume`
            is True and a setting was changed that cannot change.
        DeviceError: `config.device` is not available.
        OutOfMemoryError: the model or a batch does not fit into the free memory.
        CheckpointError: there is no checkpoint to resume from, another process trains in the
            folder, or the last checkpoint could not be written.
        TrainingDiverged: the loss is not finite.
    """
    out = Path(config.out)
    if resume:
        TrainConfig.load(out / CONFIG).resumed_with(dataclasses.asdict(config))
    backends.get(config.device)  # a device that is not there is an error before any work
    check_memory(config)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"out: {str(out)!r} cannot be made a folder: {error.strerror}"
        ) from None
    watched = Reporters([reporter] if reporter else [])
    with FolderLock(out, "a run in this folder"):
        return _train(config, resume, watched)


def _train(config: TrainConfig, resume: bool, watched: Reporters) -> TrainResult:
    """`train`, in a folder that exists and that this process has locked."""
    out = Path(config.out)
    state = None
    if resume:
        state = _state_to_resume(out / "checkpoints", watched)
    elif list_checkpoints(out / "checkpoints"):
        raise ArgumentError(
            f"out: {str(out)!r} already holds a run; resume it (--resume), or choose another --out"
        )
    corpus = corpora.prepare(config, out / "data", watched.note, reuse=resume)
    config.save(out / CONFIG)
    trainer = Trainer(config, corpus, watched, state)
    del state  # with the optimiser's state, it is three times as large as the model
    watched.reporters += _files_of_run(config, trainer.step, watched)
    try:
        watched.start(_description(trainer))
        watched.patient = True
        finished = trainer.run()
        result = _result(trainer, _export(trainer), finished)
        _draw(out, watched)
        watched.finish(result.to_json())
        if watched.gone is not None:
            raise watched.gone
    finally:
        watched.close()
    return result


def _state_to_resume(checkpoints: Path, notes: Reporter) -> dict[str, Any]:
    """Return the state of the newest undamaged checkpoint; rename damaged ones."""
    if not checkpoints.is_dir() or not any(checkpoints.glob("step-*")):
        raise CheckpointError(
            f"the run in {str(checkpoints.parent)!r} saved no checkpoint, so there is nothing to "
            "resume; start it again without --resume"
        )
    checkpoint, state, damaged = load_latest(checkpoints)
    for path, reason in damaged:
        kept = rename_damaged(path)
        notes.note(f"warning: {reason}; it is set aside as {kept.name}")
    if damaged:
        notes.note(f"going on from the older checkpoint of step {checkpoint.step}")
    return state


def _files_of_run(config: TrainConfig, step: int, notes: Reporter) -> list[Reporter]:
    out = Path(config.out)
    reporters: list[Reporter] = [MetricsFile(out / "metrics.jsonl", step)]
    if config.tensorboard:
        try:
            reporters.append(TensorBoardEvents(out / "tensorboard", step))
        except ImportError:
            notes.note("no TensorBoard events: pip install tensorboard")
    return reporters


def _description(trainer: Trainer) -> dict[str, Any]:
    config, corpus = trainer.config, trainer.corpus
    return {
        "out": config.out,
        "text": corpus.source,
        "documents": corpus.documents,
        "characters": corpus.characters,
        "train_tokens": len(corpus.train),
        "val_tokens": len(corpus.val),
        "vocab_size": corpus.tokenizer.vocab_size,
        "parameters": trainer.model.num_parameters(),
        "step": trainer.step,
        "steps": config.steps,
        "tokens_per_step": config.tokens_per_step,
        "max_minutes": config.max_minutes,
        "device": config.device,
    }


def _result(trainer: Trainer, folder: Path, finished: bool) -> TrainResult:
    return TrainResult(
        out=trainer.out,
        model=folder,
        step=trainer.step,
        tokens=trainer.step * trainer.config.tokens_per_step,
        elapsed=trainer.elapsed,
        train_loss=trainer.train_loss,
        val_loss=trainer.best_val_loss,
        finished=finished,
    )


def _export(trainer: Trainer) -> Path:
    """Export the weights with the best validation loss (the last ones, if nothing is held out)."""
    step = trainer.restore_best()
    if floating_dtype(trainer.config.export_dtype) is gradient.float32:
        trainer.widen()
    config, corpus = trainer.config, trainer.corpus
    record = {
        "command": config.command(),
        "gradient": gradient.__version__,
        "text": corpus.source,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "characters": corpus.characters,
        "train_tokens": len(corpus.train),
        "parameters": trainer.model.num_parameters(),
        "best_step": step,
        "steps": trainer.step,
        "tokens_seen": trainer.step * config.tokens_per_step,
        "val_loss": trainer.best_val_loss,
        "val_bits_per_byte": trainer.bits_per_byte(trainer.best_val_loss),
        "train_loss": trainer.train_loss,
        "minutes": round(trainer.elapsed / 60, 2),
        "config": config.to_json(),
    }
    folder = trainer.out / "model"
    return export_model(
        trainer.model, corpus.tokenizer, folder, dtype=config.export_dtype, record=record
    )


def _draw(out: Path, notes: Reporter) -> None:
    try:
        loss_curve(read_metrics(out / "metrics.jsonl"), out / "loss.png", title=out.name)
    except (MissingDependency, OSError) as error:
        notes.note(f"no loss curve: {error}")
