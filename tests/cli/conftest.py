"""What commands print is broken at 80 columns, wherever the tests run."""

from __future__ import annotations

import pytest
import typer.rich_utils  # noqa: F401 (which takes the width that it finds when it is loaded)


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
