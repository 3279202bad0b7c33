"""Name content by what it is: SHA-256 digests of arrays, files and plain settings."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def array_digest(array: np.ndarray) -> str:
    """Return the hex SHA-256 of an array's dtype, shape and values (C order)."""
    head = f"{array.dtype.str}{array.shape}".encode()
    digest = hashlib.sha256(head)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_digest(settings: Any) -> str:
    """Return the hex SHA-256 of a JSON-like value; dictionary order does not matter."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def joint_digest(lines: Iterable[str]) -> str:
    """Return the hex SHA-256 of a sequence of ASCII lines, in order."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("ascii"))
        digest.update(b"\n")
    return digest.hexdigest()
