"""Sizes of descriptors by name: those of the papers, and a ladder.

Each entry is keyword arguments of `memjax.models.descriptor`'s networks; dropout and precision are for the config to
add. The encoder's size follows from how often the images are halved: with 16 features, 7.5 M for 64 x 64 x 64 and
120.2 M for 256 x 256 x 32, as in the follow-up's code, with 0.07 and 0.08 M for the layers after it.

The ladder is for measuring what a larger descriptor finds, so it has one dial: each step doubles the width and changes
nothing else but the groups of group norm. Counted for one channel.

                   residual-8    residual-16    residual-32    residual-64
    in two axes        0.98 M         3.87 M        15.40 M        61.44 M
    in three           3.07 M        12.23 M        48.82 M       195.13 M
"""


def _encoder(features: int) -> dict[str, object]:
    return {
        "network": "encoder",
        "features": features,
        "channels": 8,
        "grid": 4,
        "hidden": 128,
        "size": 32,
        "groups": 32,
    }


def _residual(width: int) -> dict[str, object]:
    return {
        "network": "residual",
        "width": width,
        "blocks": (0, 2, 2, 2, 2),
        "grid": 4,
        "size": 128,
        "groups": min(32, width),
    }


PRESETS: dict[str, dict[str, object]] = {
    # Dar et al., 2023 (arXiv 2307.01148) and 2024 (arXiv 2402.01054): the encoder of Khader et al. has 16 features.
    "encoder-8": _encoder(8),
    "encoder-16": _encoder(16),
    "encoder-32": _encoder(32),
    "residual-8": _residual(8),
    "residual-16": _residual(16),
    "residual-32": _residual(32),
    "residual-64": _residual(64),
}
