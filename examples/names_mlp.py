"""Learn how words are spelled, then invent new ones, with an MLP over the last few letters.

    python examples/names_mlp.py                          # words from Python's own public names
    python examples/names_mlp.py --words names.txt --steps 2000

After Bengio et al. 2003, "A Neural Probabilistic Language Model": each of the last `context`
letters is looked up in an embedding, and a hidden layer (with batch normalisation) scores the next
letter. It also runs on PyTorch, with PyTorch's import lines (examples/README.md).
"""

import argparse
import builtins
import keyword
import string
import sys
from pathlib import Path
from typing import Any

import gradient
import gradient.nn as nn
import gradient.nn.functional as F
from gradient.optim import Adam
from gradient.optim.lr_scheduler import StepLR

END = "."  # begins and ends every word; id 0
ALPHABET = END + string.ascii_lowercase


def python_words() -> list[str]:
    """Lower-case words of Python's keywords, builtins, module names and str, list, dict methods."""
    names = [*keyword.kwlist, *dir(builtins), *sys.stdlib_module_names]
    names += [name for kind in (str, list, dict, set, bytes, int, float) for name in dir(kind)]
    parts = {part for name in names for part in name.lower().split("_")}
    return sorted(part for part in parts if len(part) > 2 and part.isascii() and part.isalpha())


def windows(words: list[str], context: int) -> tuple[gradient.Tensor, gradient.Tensor]:
    """For each letter of each word: the `context` ids before it (N, context), its own id (N,)."""
    inputs, targets = [], []
    for word in words:
        window = [0] * context
        for letter in word + END:
            inputs.append(window)
            targets.append(ALPHABET.index(letter))
            window = window[1:] + targets[-1:]
    return gradient.tensor(inputs), gradient.tensor(targets)


def letter_mlp(context: int, width: int = 24, hidden: int = 128) -> nn.Sequential:
    """(N, context) letter ids to (N, 27) logits of the next letter."""
    return nn.Sequential(
        nn.Embedding(len(ALPHABET), width),
        nn.Flatten(),
        nn.Linear(context * width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.Tanh(),
        nn.Linear(hidden, len(ALPHABET)),
    )


@gradient.no_grad()
def invent(model: nn.Sequential, context: int, longest: int = 20) -> str:
    """A new word, sampled letter by letter until the end mark."""
    model.eval()
    ids = [0] * context
    while len(ids) < context + longest:
        probabilities = F.softmax(model(gradient.tensor([ids[-context:]])), dim=-1)
        ids.append(gradient.multinomial(probabilities[0], num_samples=1).item())
        if ids[-1] == 0:
            break
    return "".join(ALPHABET[i] for i in ids[context:]).rstrip(END)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--words", type=Path, help="a file with one word a line")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--context", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)
    gradient.set_default_device(args.device)

    gradient.manual_seed(args.seed)
    words = args.words.read_text("utf-8").lower().split() if args.words else python_words()
    inputs, targets = windows(words, args.context)
    print(f"{len(words):,} words, {len(targets):,} letters to foretell")

    model = letter_mlp(args.context)
    optimizer = Adam(model.parameters(), lr=args.lr)
    scheduler = StepLR(optimizer, step_size=max(1, args.steps // 2), gamma=0.3)
    losses = []
    for step in range(args.steps):
        rows = gradient.randint(0, len(targets), (args.batch,))
        loss = F.cross_entropy(model(inputs[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        if step % 200 == 0 or step == args.steps - 1:
            print(f"step {step:5d}  loss {losses[-1]:.4f} nats per letter")

    invented = [invent(model, args.context) for _ in range(10)]
    print(" ".join(invented))
    return {"losses": losses, "words": invented}


if __name__ == "__main__":
    main()
