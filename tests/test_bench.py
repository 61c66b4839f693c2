"""The benchmarks themselves: that they run, compare like with like, and write what they say."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from bench import chart
from bench.cases import CASES
from bench.measure import Samples, interleave
from bench.result import Result, table
from support.paths import CHECKOUT

pytestmark = pytest.mark.cpu_only


def test_contenders_take_turns_and_neighbours_are_compared():
    calls = []
    samples = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=4)
    assert "".join(calls) == "abbaabba"
    assert {label: len(sample.seconds) for label, sample in samples.items()} == {"a": 4, "b": 4}


def test_a_ratio_is_the_median_over_rounds_not_the_ratio_of_medians():
    # The machine slows down by ten in the last rounds; each round still says "twice as slow".
    ours, peer = Samples((2.0, 20.0, 200.0)), Samples((1.0, 10.0, 100.0))
    assert ours.ratio(peer) == 2.0
    assert ours.beyond(peer) == 10.0
    assert (ours.median, ours.best) == (20.0, 2.0)


def test_a_result_survives_json_and_shows_in_the_table():
    result = Result(
        case="ops", what="mul", contender="gradient", value=1234.5, unit="us",
        peer="torch eager", ratio=0.5, roofline=0.25, bound="10 GB/s", target="<= 1 us", met=False,
    )  # fmt: skip
    assert Result.from_json(result.json()) == result
    heading, _, row = table([result]).splitlines()
    assert heading.split() == [
        "case", "what", "contender", "median", "best", "ratio", "roofline", "target",
    ]  # fmt: skip
    assert row.split("  ")[-1].strip() == "<= 1 us MISSED"
    assert "1,234 us" in row
    assert "0.50 x torch eager" in row
    assert "25% of 10 GB/s" in row


def test_the_chart_takes_the_last_of_our_figures_beside_llama_cpp(tmp_path):
    ours = Result(
        "llama.cpp", "q4_0: decode", "gradient", 20.0, "tokens/s", peer="llama.cpp", ratio=1.5
    )
    peer = Result("llama.cpp", "q4_0: decode", "llama.cpp", 13.0, "tokens/s")
    file = tmp_path / "results.jsonl"
    lines = [dataclasses.replace(ours, ratio=9.0), peer, ours]
    file.write_text("\n".join(line.json() for line in lines))
    found = chart.ratios(file)
    assert found == {"q4_0: decode": ours}
    assert chart.table(found).splitlines()[-1] == "| q4_0: decode | 20 | 1.50 |"
    pytest.importorskip("matplotlib")
    chart.draw(found, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_case_runs_without_peers(case, tmp_path):
    file = tmp_path / "results.jsonl"
    options = ["--tiny", "--no-peers", "--threads", "1", "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "bench", case, *options],
        cwd=CHECKOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    # 1 is a missed target too: on a busy machine that is no fault of the benchmark.
    assert done.returncode in (0, 1), done.stderr
    machine, *results = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert machine["kind"] == "machine"
    assert "numpy" in machine["packages"]
    assert {result["kind"] for result in results} == {"result"}
    assert {result["case"] for result in results} == {case}
    contenders = {result["contender"] for result in results}
    assert contenders & {"gradient", "numpy-plugin"}  # by a plugin, of `plugin`
    assert not contenders & {"torch", "torch eager", "torch compile", "transformers"}


def test_an_unknown_case_is_refused_by_name():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "speed"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"unknown case speed; known: {', '.join(CASES)}" in done.stderr
