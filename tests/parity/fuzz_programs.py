"""Run random programs under PyTorch and under gradient, and print those that differ.

    python tests/parity/fuzz_programs.py --programs 50000 --seed 1

Each difference is printed as a short script for both packages, with both answers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch  # noqa: E402

from fuzzing import generator, known  # noqa: E402
from fuzzing.comparison import Comparer, Difference  # noqa: E402
from fuzzing.program import script  # noqa: E402
from fuzzing.shrinking import shrink  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=1, help="of each sort of difference")
    parser.add_argument("--all", action="store_true", help="known differences too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    excused = 0
    began = time.perf_counter()
    first = options.seed * 1_000_000
    for seed in range(first, first + options.programs):
        drawn = generator.program(seed)
        comparer = Comparer(drawn)
        found = comparer.compare()
        excused += comparer.excused
        if not found:
            continue
        whys = [known.reason(difference) for difference in found]
        reasons.update(why for why in whys if why)
        if None not in whys and not options.all:
            continue
        difference: Difference = found[whys.index(None) if None in whys else 0]
        counts[difference.signature] += 1
        if counts[difference.signature] <= options.examples:
            small, small_difference = shrink(drawn, difference)
            print(f"\n#### {' of '.join(difference.signature)}: program {seed}")
            print(f"{script(small)}\n# {small_difference}", flush=True)
    taken = time.perf_counter() - began
    print(f"\n{options.programs} programs from seed {first} in {taken:.0f} s")
    print(f"{sum(counts.values())} differ; {sum(reasons.values())} with a reason")
    print(f"{excused} results are moved as far by rounding")
    for signature, n in counts.most_common():
        print(f"{n:6d}  {' of '.join(signature)}")
    for why, n in reasons.most_common():
        print(f"{n:6d}  known: {why}")
    return int(bool(counts))


if __name__ == "__main__":
    sys.exit(main())
