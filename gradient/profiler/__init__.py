"""A profiler: how often each op ran, and for how long.

>>> from gradient.profiler import profile, record_function
>>> with profile() as prof:
...     with record_function("step"):
...         gradient.ones(8, 8).exp().sum()
tensor(173.9700)
>>> [(row.key, row.count) for row in prof.key_averages()]
[('step', 1), ('exp', 1), ('sum', 1)]

`prof.key_averages().table(sort_by="cpu_time_total", row_limit=10)` returns a table to print,
`prof.export_chrome_trace("trace.json")` writes a file for chrome://tracing or ui.perfetto.dev.

Ops are watched from outside, like by a debugger: without a profiler they have no cost, with one
small ops take several times as long. On a GPU the times are those of the host, which only queues
ops. A plan that `gradient.compile` replays on the CPU is run call by call
meanwhile: each call has its time, which contains that of its kernel.
"""

from typing import TYPE_CHECKING

from gradient import absent
from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.profiler.events import *
from gradient.profiler.profile import *

if not TYPE_CHECKING:
    __all__ = _public(globals())
    __getattr__ = absent.names(__name__)
    __dir__ = _shown(globals())
