"""A file is whole or what it was before, and a full disk is known in any disguise."""

import errno

import pytest
from safetensors import SafetensorError

from memjax.errors import UserError
from memjax.whole import is_disk_full, whole_file


def test_a_file_is_whole_or_what_it_was(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "second"):
        with whole_file(path) as partial:
            partial.write_text(text)
            assert path.exists() == (text == "second")
        assert path.read_text() == text

    def interrupted(error):
        with whole_file(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(KeyboardInterrupt):
        interrupted(KeyboardInterrupt())
    with pytest.raises(UserError, match=r"the disk of .*a.txt is full; make room and run the same command again"):
        interrupted(OSError(errno.ENOSPC, "No space left on device"))
    assert path.read_text() == "second"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def chained(error, cause, *, by_cause):
    if by_cause:
        error.__cause__ = cause
    else:
        error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (ValueError("RESOURCE_EXHAUSTED: Failed to write 3 bytes: No space left on device [os_error_code='28']"), True),
        (chained(RuntimeError("save failed"), OSError(errno.ENOSPC, "x"), by_cause=True), True),
        (chained(RuntimeError("save failed"), OSError(errno.ENOSPC, "x"), by_cause=False), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes"), False),  # a device's, not the disk's
        (None, False),
    ],
)
def test_a_full_disk_in_any_disguise(error, expected):
    assert is_disk_full(error) == expected
