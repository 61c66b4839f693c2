#!/usr/bin/env bash
# On a Mac with an Apple GPU: the suite and the benchmarks on the device metal. Writes
# bench/results/DATE-metal.jsonl, the figures, and bench/results/DATE-metal.txt, what each step of
# the suite said. From a checkout, in a virtual environment of Python 3.11 to 3.13.
#
#   bench/metal.sh
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pip install --quiet -e ".[test]" || exit 1
python -c 'import mlx.core as mx; assert mx.metal.is_available(), "MLX finds no Metal GPU here"' || exit 1

results="bench/results/$(date +%F)-metal"
failed=0
: > "$results.txt"

# Runs a step whatever came of those before, and notes how it ended.
step() {
    echo "== $*" | tee -a "$results.txt"
    "$@" 2>&1 | tee "$results.step"
    local status=${PIPESTATUS[0]}
    tail -n 5 "$results.step" >> "$results.txt"
    echo "exit status $status" | tee -a "$results.txt"
    rm -f "$results.step"
    if [ "$status" -ne 0 ]; then failed=1; fi
}

step pytest -q tests/backends/test_process.py tests/backends/test_process_refusals.py tests/backends/test_process_models.py tests/backends/test_metal.py tests/plan/test_process.py
step pytest -q --device metal tests/ops -k "not (bare or handle or process)"
step pytest -q --device metal tests/functional tests/nn tests/optim tests/models -m "not slow"
step gradient check --device metal
step python -m bench plugin --json "$results.jsonl"
echo "written: $results.jsonl, $results.txt"
exit "$failed"
