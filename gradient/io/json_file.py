"""Reading an untrusted JSON file: with a size limit, and errors that name the file."""

from __future__ import annotations

import json
import os
from typing import Any

from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.regular_file import open_regular
from gradient.io.signatures import SIGNATURE_BYTES, describe

#: A tokenizer's JSON may have 30 MB, a config 10 KB; a larger file is something else.
MAX_JSON_BYTES = 500_000_000


def read_json(path: str | os.PathLike[str], max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: it is not UTF-8, not JSON, or larger than `max_bytes`.
    """
    content = b""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise FileFormatError(f"{path} has {size:,} bytes; the limit is {max_bytes:,}")
            content = file.read(max_bytes + 1)
        return json.loads(content.decode("utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ModelNotFound(f"no JSON file at {path}: {error.strerror}") from None
    except FileFormatError:
        raise
    except (ValueError, RecursionError) as error:
        what = describe(content[:SIGNATURE_BYTES])
        reason = f"it is {what}" if what else str(error) or "nested too deeply"
        raise FileFormatError(f"{path} is not a valid JSON file: {reason}") from None
