"""The training loop: steps, validation, checkpoints and the state that a resumed run needs."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import gradient
import gradient.functional as F
from gradient import nn, optim
from gradient.amp import GradScaler, autocast
from gradient.dtypes.names import floating_dtype
from gradient.errors import CheckpointError, TrainingDiverged
from gradient.generation import generate
from gradient.generation.prompt import encode_prompt
from gradient.io.checkpoint import load_checkpoint, save_checkpoint
from gradient.nn.evaluating import evaluating
from gradient.optim.masters import MASTER
from gradient.training import corpus as corpora
from gradient.training.batches import IGNORED, Batch, Batches, DocumentBatches, TokenBatches
from gradient.training.config import TrainConfig
from gradient.training.interrupt import StopRequest
from gradient.training.model import build_model, restored_model
from gradient.training.packed_rows import PackedRows
from gradient.training.reporters import Reporter
from gradient.training.schedule import learning_rate, progress


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and embeddings with weight decay; biases and norm weights without."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


class Stopwatch:
    """Total time, and lap times that leave pauses out; in seconds."""

    def __init__(self, earlier: float = 0.0) -> None:
        self._lap_began = time.perf_counter()
        self._began = self._lap_began - earlier

    def total(self) -> float:
        return time.perf_counter() - self._began

    def lap(self) -> float:
        """Time since the last lap, less the pauses."""
        now = time.perf_counter()
        lap, self._lap_began = now - self._lap_began, now
        return lap

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._lap_began += time.perf_counter() - began


class Trainer:
    """One run: model, optimiser, data and counters; use it through `train`.

    Args:
        config: the config of the run.
        corpus: its text, from `gradient.training.corpus.prepare`.
        reporter: receives the events of the run.
        state: the state of a checkpoint to resume from.
    """

    def __init__(
        self,
        config: TrainConfig,
        corpus: corpora.Corpus,
        reporter: Reporter,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.corpus = corpus
        self.reporter = reporter
        self.out = Path(config.out)
        gradient.manual_seed(config.seed)
        model_config = None if state is None else state.get("model_config")
        if model_config is None:
            model = build_model(config, corpus)
        else:
            model = restored_model(model_config, corpus)
        dtype = floating_dtype(config.dtype)
        # The exponent range of float16 is too small for weights and gradients: they stay in
        # float32, products use float16, the loss is scaled (Micikevicius et al. 2018, section 3.2).
        is_half = dtype is gradient.float16
        self.autocast = autocast(config.device, gradient.float16, enabled=is_half)
        self.scaler = GradScaler(self.autocast.device_type, enabled=is_half)
        dtype = gradient.float32 if is_half else dtype
        self.model = model.to(config.device, dtype)
        self.optimizer = optim.AdamW(
            parameter_groups(self.model, config.weight_decay),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            master_weights=config.master_weights and dtype.itemsize == 2,
        )
        self.batches = self._batches(corpus.train, config.block_size)
        # The held-out part of a short text may be shorter than a sequence.
        length = max(1, min(config.block_size, len(corpus.val) - 1))
        self.held_out = self._batches(corpus.val, length)
        self.step = 0
        self.elapsed = 0.0  # seconds of training, over all resumptions
        self.timed_step = 0  # at the beginning of the Stopwatch's lap
        self.train_loss = math.nan
        self.best_val_loss: float | None = None
        self.saved_step = -1
        # Since the last record in the log: the sum of the losses, and how many there are.
        self.unlogged: tuple[gradient.Tensor | float, int] = (0.0, 0)
        if state is not None:
            self.load_state_dict(state)

    def _batches(self, tokens: corpora.Tokens, length: int) -> Batches:
        size, seed = self.config.batch_size, self.config.seed
        if tokens.lengths is None or tokens.learned is None:
            return TokenBatches(tokens.ids, length, size, seed)
        return DocumentBatches(
            tokens.ids, tokens.lengths, tokens.learned, self.config.block_size, size, seed
        )

    # State -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on (the data position is a function of `step`)."""
        return {
            "model": self.model.state_dict(),
            "model_config": self.model.config.to_hf(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": gradient.random.default_generator.get_state(),
            "step": self.step,
            "elapsed": self.elapsed,
            "train_loss": self.train_loss,
            "best_val_loss": self.best_val_loss,
            "unlogged": [float(self.unlogged[0]), self.unlogged[1]],
            "corpus": self.corpus.fingerprint,
            "config": self.config.to_json(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state.

        Raises:
            CheckpointError: the checkpoint was trained on other tokens.
        """
        if state["corpus"] != self.corpus.fingerprint:
            raise CheckpointError(
                f"{self.out}: the prepared text is not the one that this run began with. "
                f"Restore {self.out / 'data'}, or start a new run in another --out folder."
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        gradient.random.default_generator.set_state(state["generator"])
        self.step = self.saved_step = state["step"]
        self.elapsed = state["elapsed"]
        self.train_loss = state["train_loss"]
        self.best_val_loss = state["best_val_loss"]
        losses, steps = state.get("unlogged", (0.0, 0))
        self.unlogged = losses, steps

    def save(self, *, is_best: bool = False) -> None:
        """Write a checkpoint.

        Raises:
            CheckpointError: it could not be written; earlier checkpoints are untouched.
        """
        try:
            path = save_checkpoint(
                self.out / "checkpoints",
                self.step,
                self.state_dict(),
                keep_last=self.config.keep_last,
                is_best=is_best,
                metrics={"train_loss": self.train_loss, "best_val_loss": self.best_val_loss},
            )
        except OSError as error:
            kept = f"step {self.saved_step}" if self.saved_step >= 0 else "none"
            again = shlex.join(["gradient", "train", "--resume", "--out", str(self.out)])
            raise CheckpointError(
                f"step {self.step} is not saved: {str(error).rstrip('.')}. Last whole checkpoint: "
                f"{kept}. Free space, then: {again}"
            ) from error
        self.saved_step = self.step
        self.reporter.checkpoint(self.step, path, is_best)

    def restore_best(self) -> int:
        """Load the weights of the checkpoint with the best validation loss, and their masters;
        return its step."""
        if self.best_val_loss is None:
            return self.step
        try:
            best = load_checkpoint(self.out / "checkpoints", "best")
        except CheckpointError as error:
            self.reporter.note(f"warning: {error}; the last weights are exported instead")
            return self.step
        self.model.load_state_dict(best["model"])
        self.optimizer.load_state_dict(best["optimizer"])
        return int(best["step"])

    def widen(self) -> None:
        """Replace the model's 16-bit weights by the optimiser's float32 masters, if it has them.
        The trainer cannot continue after this."""
        state = self.optimizer.state
        masters = {
            name: state[p][MASTER]
            for name, p in self.model.named_parameters()
            if MASTER in state.get(p, {})
        }
        if masters:
            self.model.float()
            with gradient.no_grad():
                for name, p in self.model.named_parameters():
                    if name in masters:
                        p.copy_(masters[name])

    # Work --------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> gradient.Tensor:
        """Return the mean cross-entropy of a batch's target tokens: a scalar, in nats per token."""
        device = self.config.device
        rows = None
        if batch.positions is not None:
            dropout = self.config.dropout if self.model.training else 0.0
            rows = PackedRows(batch.positions, device, dropout)
        with self.autocast:
            logits = self.model(gradient.from_numpy(batch.inputs).to(device), rows)  # (B, T, V)
        targets = gradient.from_numpy(batch.targets).to(device).reshape(-1)
        logits = logits.reshape(-1, logits.shape[-1]).float()
        return F.cross_entropy(logits, targets, ignore_index=IGNORED)

    def train_step(self) -> tuple[gradient.Tensor | float, gradient.Tensor]:
        """Do one optimiser step; return its loss (0.0 if its batches have no target tokens) and
        gradient norm, both still on the device.

        In float16, a step whose gradients overflow is skipped, and the loss scale is reduced.
        """
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step, self.elapsed)
        first = self.step * config.accumulate
        parts = [self.batches[first + part] for part in range(config.accumulate)]
        learned = [batch.learned for batch in parts]
        total: gradient.Tensor | float = 0.0
        for batch, count in zip(parts, learned, strict=True):
            if not count:
                continue
            loss = self.loss(batch)
            if config.accumulate > 1:
                loss = loss * (count / sum(learned))  # all tokens have the same weight
            self.scaler.scale(loss).backward()
            total = total + loss.detach()
        limit = config.grad_clip or math.inf
        if any(learned):
            self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        if any(learned):
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad()
        self.step += 1
        return total, norm

    def evaluate(self) -> float | None:
        """Validation loss over evenly spread windows; None if nothing is held out."""
        if len(self.corpus.val) < 2:
            return None
        total = count = 0.0
        with gradient.no_grad(), evaluating(self.model):
            for batch in self.held_out.spread(self.config.eval_batches):
                if learned := batch.learned:
                    total += self.loss(batch).item() * learned
                    count += learned
        return total / count if count else None

    def show_samples(self) -> None:
        """Generate from the sample prompts, always with the same seed, and report the texts."""
        config, tokenizer = self.config, self.corpus.tokenizer
        if not config.sample_tokens:
            return
        prompts = [self._prompt(text) for text in config.sample_prompts]
        if not prompts:
            prompts = [self._held_out_prompt()]
        with evaluating(self.model):
            for prompt in prompts:
                ids = prompt[-config.block_size :]
                sample = generate(
                    self.model,
                    ids,
                    tokenizer=tokenizer,
                    max_new_tokens=config.sample_tokens,
                    temperature=0.8,
                    top_p=0.95,
                    seed=config.seed,
                )
                self.reporter.sample(self.step, tokenizer.decode(ids), str(sample))

    def _prompt(self, text: str) -> list[int]:
        """Return the prompt for a sample: the text, or, in training on chats, a user message."""
        tokenizer = self.corpus.tokenizer
        if not self.corpus.chats:
            return encode_prompt(text, tokenizer)
        asked = tokenizer.apply_chat_template([{"role": "user", "content": text}])
        return tokenizer.encode(asked, add_special_tokens=False)

    def _held_out_prompt(self) -> list[int]:
        """The beginning of the held-out text; in a chat up to the assistant's first words."""
        side = self.corpus.val if len(self.corpus.val) else self.corpus.train
        length = self.config.block_size // 4
        if side.lengths is not None and side.learned is not None:
            learned = side.learned[: side.lengths[0]]
            unlearned = int(np.argmax(learned))
            length = unlearned if unlearned > 1 else min(length, max(1, len(learned) // 2))
        return side.ids[:length].tolist()

    def bits_per_byte(self, loss: float | None) -> float | None:
        """A validation loss in bits per byte of text, comparable between tokenizers."""
        if loss is None or not self.corpus.val_bytes_per_token:
            return None
        return loss / math.log(2) / self.corpus.val_bytes_per_token

    def evaluate_and_save(self) -> None:
        """Validate, show a sample, write a checkpoint.

        A checkpoint that cannot be written does not end the run: the space may be freed before
        the next one, and stopping would lose the work in memory for certain.
        """
        val_loss = self.evaluate()
        earlier_best, is_best = self.best_val_loss, False
        if val_loss is not None:
            is_best = earlier_best is None or val_loss < earlier_best
            if is_best:
                self.best_val_loss = val_loss
            bits = self.bits_per_byte(val_loss)
            record = {"step": self.step, "val_loss": val_loss, "val_bits_per_byte": bits}
            self.reporter.evaluation(record)
        self.show_samples()
        try:
            self.save(is_best=is_best)
        except CheckpointError as error:
            self.best_val_loss = earlier_best
            if progress(self.config, self.step, self.elapsed) < 1.0:
                self.reporter.note(f"warning: {error}")
                self.reporter.note("training goes on, and tries again at the next validation")

    def run(self) -> bool:
        """Train; return True at the end, False if stopped by Ctrl-C or by a closed output pipe."""
        config = self.config
        begun = self.step  # the first step compiles kernels, and there is nothing to save before
        with StopRequest(self._on_stop_request, at_once=lambda: self.step == begun) as stop:
            clock = Stopwatch(self.elapsed)
            self.timed_step = self.step
            losses, since = self.unlogged
            while progress(config, self.step, self.elapsed) < 1.0:
                loss, norm = self.train_step()
                losses, since = losses + loss, since + 1
                self.elapsed = clock.total()
                done = progress(config, self.step, self.elapsed) >= 1.0
                evaluate = self.step % config.eval_every == 0 or done
                log = self.step % config.log_every == 0 or evaluate
                if log or stop.requested:
                    # Reading the loss waits for the device: once per record, not per step.
                    self.train_loss = float(losses) / since
                    self._check_finite()
                if log:
                    self.reporter.step(self._record(norm.item(), clock.lap()))
                    losses, since = 0.0, 0
                # Saved, so that a run that is stopped here and resumed logs the same numbers.
                self.unlogged = losses, since
                if evaluate:
                    with clock.paused():
                        self.evaluate_and_save()
                if (stop.requested or self.reporter.gone is not None) and not done:
                    break
            if self.saved_step != self.step:
                self.save()
        return progress(config, self.step, self.elapsed) >= 1.0

    def _record(self, norm: float, seconds: float) -> dict[str, Any]:
        steps = self.step - self.timed_step
        self.timed_step = self.step
        done = progress(self.config, self.step, self.elapsed)
        left = 1.0 - done
        return {
            "step": self.step,
            "loss": self.train_loss,
            "lr": self.optimizer.param_groups[0]["lr"],
            "grad_norm": norm if math.isfinite(norm) else None,  # of a skipped step
            "tokens": self.step * self.config.tokens_per_step,
            "tokens_per_second": steps * self.config.tokens_per_step / max(seconds, 1e-9),
            "elapsed": self.elapsed,
            "eta": self.elapsed * left / done,
            "progress": done,
        }

    def _check_finite(self) -> None:
        if not math.isfinite(self.train_loss):
            raise TrainingDiverged(
                f"the loss is {self.train_loss} at step {self.step}; the last checkpoint is of "
                f"step {max(self.saved_step, 0)}. Try again with a lower --learning-rate or "
                f"more --warmup-steps."
            )

    def _on_stop_request(self) -> None:
        self.reporter.note(
            "stopping: this step is finished and saved first (Ctrl-C again breaks off at once)"
        )
