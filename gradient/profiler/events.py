"""The records of a profiler: calls, and their averages by name, as a table or a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from gradient.errors import ArgumentError, sentence

__all__ = ["EventList", "FunctionEvent", "FunctionEventAvg"]

Row = TypeVar("Row", bound="Timed")


class Timed:
    """Times of one call, or of all calls of one name, in microseconds. Times of a device are 0,
    because the host does not wait for it."""

    # An average sums these up, and a single call computes three of them: those are properties
    # there.
    key: str
    count: int
    cpu_time_total: float
    self_cpu_time_total: float

    device_time = device_time_total = self_device_time_total = 0.0
    cuda_time = cuda_time_total = self_cuda_time_total = 0.0
    cpu_memory_usage = self_cpu_memory_usage = device_memory_usage = flops = 0

    @property
    def cpu_time(self) -> float:
        """The mean time of a call."""
        return self.cpu_time_total / self.count if self.count else 0.0

    @property
    def cpu_time_str(self) -> str:
        return shown_time(self.cpu_time)

    @property
    def cpu_time_total_str(self) -> str:
        return shown_time(self.cpu_time_total)

    @property
    def self_cpu_time_total_str(self) -> str:
        return shown_time(self.self_cpu_time_total)


@dataclass(eq=False)
class FunctionEvent(Timed):
    """One call.

    Attributes:
        name: the op's, such as "matmul"; in a backward pass the node's, such as "MatmulBackward0";
            or that of `record_function`.
        start, end: microseconds since the profiler started.
        cpu_parent, cpu_children: the call around it, and those within.
        input_shapes: the shapes of its tensors, with `record_shapes`.
        stack: the line of the program that called it, with `with_stack`.
    """

    name: str
    start: float
    thread: int
    cpu_parent: FunctionEvent | None = None
    end: float = 0.0
    input_shapes: list[list[int]] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    cpu_children: list[FunctionEvent] = field(default_factory=list)
    is_user_annotation: bool = False
    count: int = 1

    @property
    def key(self) -> str:  # type: ignore[override]
        return self.name

    @property
    def cpu_time_total(self) -> float:  # type: ignore[override]
        return self.end - self.start

    @property
    def self_cpu_time_total(self) -> float:  # type: ignore[override]
        """The time without the calls within."""
        return self.cpu_time_total - sum(child.cpu_time_total for child in self.cpu_children)


@dataclass(eq=False)
class FunctionEventAvg(Timed):
    """All calls of one name (and of the same shapes, if they are grouped by shape)."""

    key: str
    count: int = 0
    cpu_time_total: float = 0.0
    self_cpu_time_total: float = 0.0
    input_shapes: list[list[int]] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    is_user_annotation: bool = False

    def add(self, event: FunctionEvent, row_of: Callable[[FunctionEvent], Any]) -> None:
        self.count += 1
        self.self_cpu_time_total += event.self_cpu_time_total
        around, own = event.cpu_parent, row_of(event)
        while around is not None and row_of(around) != own:
            around = around.cpu_parent
        if around is None:  # a call within one of the same row is included in that
            self.cpu_time_total += event.cpu_time_total


class EventList(list[Row], Generic[Row]):
    """Calls, or their averages."""

    @property
    def self_cpu_time_total(self) -> float:
        """The time of all calls, in microseconds."""
        return sum(event.self_cpu_time_total for event in self)

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0
    ) -> EventList[FunctionEventAvg]:
        """Return one row for each name, in the order of their first calls."""

        def row_of(event: FunctionEvent) -> tuple[str, ...]:
            shapes = repr(event.input_shapes) if group_by_input_shape else ""
            return event.name, shapes, *event.stack[:group_by_stack_n]

        found: dict[Any, FunctionEventAvg] = {}
        for event in self:
            if not isinstance(event, FunctionEvent):
                continue
            row = found.setdefault(
                row_of(event),
                FunctionEventAvg(
                    event.name,
                    input_shapes=event.input_shapes if group_by_input_shape else [],
                    stack=event.stack[:group_by_stack_n],
                    is_user_annotation=event.is_user_annotation,
                ),
            )
            row.add(event, row_of)
        return EventList(found.values())

    def total_average(self) -> FunctionEventAvg:
        """Return the sum of all in one row."""
        total = FunctionEventAvg("Total")
        for event in self:
            total.count += event.count
            total.cpu_time_total += event.self_cpu_time_total
            total.self_cpu_time_total += event.self_cpu_time_total
        return total

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int = 75,
        max_name_column_width: int = 55,
        max_shapes_column_width: int = 80,
        header: str | None = None,
        top_level_events_only: bool = False,
        time_unit: str | None = None,
    ) -> str:
        """Return the rows as text, each with its share of the whole time.

        Args:
            sort_by: "cpu_time_total", "self_cpu_time_total", "cpu_time" or "count", largest first;
                the names of device times mean the host's.
            row_limit: number of rows; negative: all.
            time_unit: "us", "ms" or "s" for all times; default: a suitable one for each.
        """
        rows: list[Any] = list(self)
        if top_level_events_only:
            rows = [row for row in rows if getattr(row, "cpu_parent", None) is None]
        if sort_by is not None:
            name = sort_by.replace("cuda", "cpu").replace("device", "cpu").replace("memory", "time")
            if name not in ("cpu_time_total", "self_cpu_time_total", "cpu_time", "count"):
                expected = "'cpu_time_total', 'self_cpu_time_total', 'cpu_time' or 'count'"
                raise ArgumentError(sentence("table", f"sort_by {expected}", repr(sort_by)))
            rows.sort(key=lambda row: getattr(row, name), reverse=True)
        whole = self.self_cpu_time_total
        rows = rows if row_limit < 0 else rows[:row_limit]
        shown = _columns(time_unit, whole)
        if any(row.input_shapes for row in rows):
            width = max_shapes_column_width
            shown["Input Shapes"] = lambda row: str(row.input_shapes)[:width]
        if any(row.stack for row in rows):
            shown["Source Location"] = lambda row: "; ".join(row.stack)[-max_src_column_width:]
        lines = [["Name", *shown]]
        lines += [
            [row.key[:max_name_column_width], *(say(row) for say in shown.values())] for row in rows
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rule = "  ".join("-" * width for width in widths)
        text = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        ]
        total = f"Self CPU time total: {shown_time(whole, time_unit)}"
        above = [header] if header else []
        return "\n".join([*above, rule, text[0], rule, *text[1:], rule, total, ""])

    def __str__(self) -> str:
        return self.table()

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the calls to a JSON file for chrome://tracing and ui.perfetto.dev."""
        process = os.getpid()
        events = [
            {
                "name": event.name,
                "cat": "user_annotation" if event.is_user_annotation else "cpu_op",
                "ph": "X",
                "ts": event.start,
                "dur": event.cpu_time_total,
                "pid": process,
                "tid": event.thread,
                "args": {"Input Dims": event.input_shapes, "Call stack": "; ".join(event.stack)},
            }
            for event in self
            if isinstance(event, FunctionEvent)
        ]
        document = {"schemaVersion": 1, "traceEvents": events, "displayTimeUnit": "ms"}
        Path(path).write_text(json.dumps(document), encoding="utf-8")


def _columns(unit: str | None, whole: float) -> dict[str, Callable[[Any], str]]:
    def part(time: float) -> str:
        return f"{100 * time / whole:.2f}%" if whole else "--"

    return {
        "Self CPU %": lambda row: part(row.self_cpu_time_total),
        "Self CPU": lambda row: shown_time(row.self_cpu_time_total, unit),
        "CPU total %": lambda row: part(row.cpu_time_total),
        "CPU total": lambda row: shown_time(row.cpu_time_total, unit),
        "CPU time avg": lambda row: shown_time(row.cpu_time, unit),
        "# of Calls": lambda row: str(row.count),
    }


def shown_time(us: float, unit: str | None = None) -> str:
    """Microseconds in a suitable unit."""
    if unit == "s" or (unit is None and us >= 1e6):
        return f"{us / 1e6:.3f}s"
    if unit == "ms" or (unit is None and us >= 1e3):
        return f"{us / 1e3:.3f}ms"
    return f"{us:.3f}us"


def in_order(events: Iterable[FunctionEvent]) -> EventList[FunctionEvent]:
    """Sort by start: a call comes before those within."""
    return EventList(sorted(events, key=lambda event: event.start))
