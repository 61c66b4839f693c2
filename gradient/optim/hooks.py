"""The handle that a registered hook is removed by."""

from __future__ import annotations

import itertools
from typing import Any

_ids = itertools.count()


class RemovableHandle:
    """Registers a hook; `remove()`, or leaving a `with` block, takes it away again."""

    def __init__(self, hooks: dict[int, Any], hook: Any, prepend: bool = False) -> None:
        self.id = next(_ids)
        self._hooks = hooks
        if prepend:
            later = dict(hooks)
            hooks.clear()
            hooks[self.id] = hook
            hooks.update(later)
        else:
            hooks[self.id] = hook

    def remove(self) -> None:
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()
