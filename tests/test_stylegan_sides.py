"""Resolutions double from 4, widths are the papers', low precision is for the highest alone."""

import pytest

from memjax.errors import UserError
from memjax.models.stylegan_sides import check_architecture, precision, sides, width


def test_sides_double():
    assert sides(16) == [4, 8, 16]
    assert sides(1024) == [4, 8, 16, 32, 64, 128, 256, 512, 1024]


@pytest.mark.parametrize(
    ("resolution", "near"),
    [
        (240, "128 or 256"),
        (28, "16 or 32"),
        (1000, "512 or 1024"),
        (1500, "1024"),
        (9, "16"),
        (1, "16"),
        (4096, "1024"),
    ],
)
def test_other_resolutions_are_told_the_near_ones(resolution, near):
    with pytest.raises(UserError, match=rf"{resolution} x {resolution}: .* prepare them at {near}\."):
        sides(resolution)


def test_widths_are_those_of_the_paper():
    # arXiv 1912.04958: 512 channels up to 64 x 64, then half of it with each doubling.
    assert [width(side, 32768, 512) for side in sides(1024)] == [512] * 5 + [256, 128, 64, 32]


def test_low_precision_is_for_the_highest_resolutions_but_never_the_first():
    def low(n):
        return [side for side in sides(64) if precision(side, 64, n, "bfloat16") == "bfloat16"]

    assert [low(n) for n in (0, 1, 2, 9)] == [[], [64], [32, 64], [8, 16, 32, 64]]


def test_unknown_architectures_are_told():
    check_architecture("skip")
    with pytest.raises(UserError, match="architecture='resnet' is not known; give skip, residual or plain"):
        check_architecture("resnet")
