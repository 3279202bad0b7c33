"""Write a file whole or not at all, and know a full disk when one is met."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from memjax.errors import UserError

# Not everything that writes for us hands on the error number: TensorStore and safetensors have the words only.
_FULL = ("no space left on device", "disk quota exceeded", "os error 28", "os error 122")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write that takes the place of `path` when its bytes are on the disk.

    Raises:
      UserError: the disk is full. `path` is what it was before.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as error:
        if is_disk_full(error):
            raise UserError(f"the disk of {path} is full; make room and run the same command again.") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether a full disk, or a used-up quota, is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error).lower() for words in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
