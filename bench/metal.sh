#!/usr/bin/env bash
# On a Mac with an Apple GPU: the suite and the benchmarks on the device metal, and the results file
# bench/results/DATE-metal.jsonl. From a checkout, in a virtual environment of Python 3.11 to 3.13.
#
#   bench/metal.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pip install --quiet -e ".[test]"
python -c 'import mlx.core as mx; assert mx.metal.is_available(), "MLX finds no Metal GPU here"'
pytest -q tests/backends/test_process.py tests/backends/test_process_models.py tests/backends/test_metal.py tests/plan/test_process.py
pytest -q --device metal tests/ops -k "not (bare or handle or process)"
pytest -q --device metal tests/functional tests/nn tests/optim tests/models -m "not slow"
gradient check --device metal
python -m bench plugin --json "bench/results/$(date +%F)-metal.jsonl"
