"""Declared limits: what each allows, what it says, and that all misfits are told at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from gradient.checks import (
    Limit,
    Relation,
    boolean,
    check,
    instance_of,
    integer,
    number,
    one_of,
    optional,
    pair,
    problems,
)
from gradient.errors import ArgumentError, TypeMismatch

pytestmark = pytest.mark.cpu_only


def limited(default: Any, limit: Limit) -> Any:
    return field(default=default, metadata={"limit": limit})


@dataclass
class Run:
    steps: int = limited(100, integer(1))
    warmup: int = limited(0, integer(0))
    dtype: str | None = limited(None, optional(one_of("float32", "bfloat16")))
    note: str = ""

    relations = (
        Relation(
            ("warmup", "steps"),
            lambda warmup, steps: warmup <= steps,
            "warmup must be at most steps = {steps}, got {warmup}",
        ),
    )

    def __post_init__(self) -> None:
        check("Run", self)


@dataclass
class LongRun(Run):
    steps: int = 10_000
    hours: float = limited(1.0, number(above=0))


def test_a_relation_may_make_its_sentence_of_the_values() -> None:
    rule = Relation(("a", "b"), lambda a, b: a < b, lambda a, b: f"a is {a - b} too large")
    assert problems({"a": 5, "b": 2}, {}, [rule]) == ["a is 3 too large"]
    assert problems({"a": 1, "b": 2}, {}, [rule]) == []


@pytest.mark.parametrize(
    ("limit", "words", "allowed", "refused"),
    [
        (number(), "a number", [0, -math.inf, np.float32(1)], [math.nan, True, "1", None, 1j]),
        (number(finite=True), "a finite number", [0, -1.5], [math.inf, -math.inf, math.nan]),
        (number(0), "a number of at least 0", [0, 0.5, math.inf], [-1e-9, math.nan]),
        (number(0, 1), "a number from 0 to 1", [0, 1], [1.001, -0.001]),
        (number(0, below=1), "a number from 0 to less than 1", [0, 0.999], [1, 1.0]),
        (number(above=0), "a number above 0", [1e-300], [0, -1]),
        (number(above=0, at_most=1), "a number above 0 and at most 1", [1], [0, 2]),
        (number(above=0, below=1), "a number above 0 and below 1", [0.5], [0, 1]),
        (number(at_most=3), "a number of at most 3", [3, -math.inf], [3.5]),
        (number(below=3), "a number below 3", [2.9], [3]),
        (number(0, finite=True), "a finite number of at least 0", [0], [math.inf, -1]),
        (integer(), "an integer", [0, -3, np.int64(4), 2**70], [1.0, True, "1", None]),
        (integer(1), "an integer of at least 1", [1], [0, 1.5]),
        (integer(1, 32), "an integer from 1 to 32", [1, 32], [0, 33]),
        (one_of("a", "b"), "one of a, b", ["a", "b"], ["c", None, [], np.zeros(2)]),
        (optional(one_of("a")), "one of a, or None", ["a", None], ["b", 0]),
        (
            pair(optional(number(0)), number(above=1)),
            "a pair: a number of at least 0, or None; a number above 1",
            [(None, 2), [0, 1.5]],
            [(0,), (0, 1), (-1, 2), (0, 2, 2), None, 1.0, "ab", ("a", 2)],
        ),
        (boolean, "a bool", [True, False], [0, 1, None]),
        (instance_of(dict, "a dict"), "a dict", [{}], [[], None]),
    ],
)
def test_a_limit(limit, words, allowed, refused):
    assert limit.expected == words
    assert [value for value in allowed if not limit.holds(value)] == []
    assert [value for value in refused if limit.holds(value)] == []


def test_all_misfits_are_told_in_the_order_of_the_fields():
    with pytest.raises(ArgumentError) as error:
        Run(warmup=-1, steps=0, dtype="int8")
    assert str(error.value) == (
        "Run: steps must be an integer of at least 1, got 0; "
        "warmup must be an integer of at least 0, got -1; "
        "dtype must be one of float32, bfloat16, or None, got 'int8'"
    )


def test_a_rule_is_looked_at_where_its_settings_are_within_their_limits():
    with pytest.raises(ArgumentError) as error:
        Run(warmup=200)
    assert str(error.value) == "Run: warmup must be at most steps = 100, got 200"
    with pytest.raises(ArgumentError) as error:
        Run(warmup="200", steps=0)
    assert "at most" not in str(error.value)


def test_a_subclass_keeps_the_limit_of_a_field_that_it_gives_another_default():
    assert LongRun().steps == 10_000
    with pytest.raises(ArgumentError, match=r"steps must be .* got 0; hours must be .* got 0$"):
        LongRun(steps=0, hours=0)


def test_a_dict_of_values_and_a_dict_of_limits():
    limits = {"betas": Limit("two numbers", lambda pair: len(pair) == 2, fix="give (0.9, 0.999)")}
    assert problems({"betas": (0, 1), "lr": -1}, limits) == []
    with pytest.raises(ArgumentError) as error:
        check("Adam", {"betas": (0,)}, limits)
    assert str(error.value) == "Adam: betas must be two numbers, got (0,); give (0.9, 0.999)"


def test_the_first_misfit_decides_the_class_of_the_error():
    limits = {"table": instance_of(dict, "a dict"), "size": integer(1)}
    with pytest.raises(TypeMismatch, match="table must be a dict, got 1; size must be"):
        check("Sampler", {"table": 1, "size": 0}, limits)
    with pytest.raises(ArgumentError):
        check("Sampler", {"table": {}, "size": 0}, limits)


def test_a_long_value_is_cut():
    with pytest.raises(ArgumentError) as error:
        Run(dtype="x" * 1000)
    assert len(str(error.value)) < 150
