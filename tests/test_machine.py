"""What the machine says of itself is understood, and where it says nothing nothing is claimed."""

from pathlib import Path

import pytest

from memjax.audit.pairs.machine import Quick, available_bytes, quick_products
from memjax.mesh import audit_mesh


@pytest.mark.parametrize(
    ("flags", "quick"),
    [
        ("fpu avx2 fma", Quick(bytes=False, halves=False)),
        ("fpu avx2 avx_vnni", Quick(bytes=True, halves=False)),
        ("fpu avx512f avx512_vnni avx512_bf16", Quick(bytes=True, halves=True)),
        ("amx_bf16", Quick(bytes=False, halves=True)),
        (None, Quick(bytes=False, halves=False)),
    ],
)
def test_processors_tell_which_products_are_quick(monkeypatch, flags, quick):
    def read(path, **_):
        if flags is None:
            raise FileNotFoundError(path)
        return f"processor\t: 0\nflags\t\t: {flags}\n"

    monkeypatch.setattr(Path, "read_text", read)
    assert quick_products(audit_mesh(1)) == quick


def test_memory_is_known_or_not(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path, **_: "MemTotal: 9 kB\nMemAvailable:     2048 kB\n")
    assert available_bytes(audit_mesh(1)) == 2 << 20

    def unreadable(path, **_):
        raise PermissionError(path)

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert available_bytes(audit_mesh(1)) is None
