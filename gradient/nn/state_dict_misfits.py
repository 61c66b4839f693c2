"""The error message for a state dict that does not fit a module."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

#: The last line of `describe` if no better fix is known.
RENAME = "  fix: rename the tensors, or pass strict=False to load those that fit"


def describe(
    model: str,
    missing: Sequence[str],
    unexpected: Sequence[str],
    wrong: Mapping[str, str],
    errors: Sequence[str] = (),
) -> str:
    """Return the error message: one line per misfit, with a suggestion for a wrong name.

    `errors` are messages of a module's own `_load_from_state_dict`.
    """
    groups = (missing, "missing"), (unexpected, "unexpected"), ([*wrong, *errors], "wrong")
    counts = [f"{len(group)} {label}" for group, label in groups if group]
    lines = [
        f"load_state_dict: the tensors do not fit {model}: {', '.join(counts)}; none was loaded"
    ]
    prefix_fix = _prefix_fix(missing, unexpected)
    for kind, names, others, where in (
        ("missing", missing, unexpected, "given"),
        ("unexpected", unexpected, missing, "expected"),
    ):
        near = {} if prefix_fix else _near(names, others)
        for name in names:
            hint = f" (near name {where}: {near[name]})" if name in near else ""
            lines.append(f"  {kind:<11} {name}{hint}")
    lines += [f"  wrong       {name}: {problem}" for name, problem in wrong.items()]
    lines += [f"  wrong       {error}" for error in errors]
    if prefix_fix is not None:
        lines.append(f"  fix: {prefix_fix}")
    elif (missing or unexpected) and not wrong:
        lines.append(RENAME)
    return "\n".join(lines)


def _near(names: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Return, for each of `names`, the most similar of `others`, if any is similar.

    difflib costs about 30 microseconds a pair, so that two lists of a thousand names would take
    half a minute: then only names equal from some dot onwards (a wrong prefix) are paired.
    """
    near: dict[str, str] = {}
    if not others:
        return near
    by_tail: dict[str, str] = {}
    for other in others:
        for tail in _tails(other):
            by_tail.setdefault(tail, other)
    cheap = len(names) * len(others) > 20_000
    for name in names:
        close = [] if cheap else difflib.get_close_matches(name, others, n=1, cutoff=0.6)
        # One shared last word ("weight") says nothing, so a tail has at least two words.
        found = (
            close[0] if close else next((by_tail[t] for t in _tails(name) if t in by_tail), None)
        )
        if found is not None:
            near[name] = found
    return near


def _tails(name: str) -> list[str]:
    """Return the ends of a dotted name that have at least two words, longest first.

    Only the last twenty words count: a module's path has fewer, and a name in a file may have any
    number.
    """
    words = name.split(".")[-20:]
    return [".".join(words[start:]) for start in range(len(words) - 1)]


def _prefix_fix(missing: Sequence[str], unexpected: Sequence[str]) -> str | None:
    """Return the fix if all names lack the same prefix, or all have the same one too many."""
    if not missing or len(missing) != len(unexpected):
        return None
    for longer, shorter, advice in (
        (unexpected, missing, "remove the prefix {!r} from every name of the state dict"),
        (missing, unexpected, "put the prefix {!r} before every name of the state dict"),
    ):
        prefix = longer[0].removesuffix(shorter[0])
        if prefix.endswith(".") and {prefix + name for name in shorter} == set(longer):
            return advice.format(prefix)
    return None
