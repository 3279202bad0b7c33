"""How a study's config is put together: from one grid for each scale, and the images and generators that it names.

Words: nothing, for the papers' full scale; `small`, for two cores (minutes a cell); `smoke`, for a minute or less.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from configs.studies import base
from configs.studies.generators import augmentations, describing, generator, model_sizes
from configs.studies.sources import SOURCES

_SAMPLES = {"": 1000, "small": 1000, "smoke": 12}  # Akbar et al.: 1000

Grid = Mapping[str, tuple[Any, ...]]


def study(
    words: str,
    *,
    title: str,
    question: str,
    claims: tuple[str, ...],
    grids: Mapping[str, Grid],
    without: Mapping[str, tuple[dict[str, Any], ...]] | None = None,
    with_descriptor: bool = False,
) -> config_dict.ConfigDict:
    """Return the config of a study.

    Args:
      words: the scale: "", "small" or "smoke".
      title: for people.
      question: one sentence that ends with a question mark.
      claims: names in `memjax/study/claims.py`.
      grids: by scale: what varies, by axis, each a tuple of values; `source` and `generator` in every one.
      without: by scale: the cells to leave out.
      with_descriptor: train a descriptor of volumes on each training set, as paper B does; and ask paper A's detector,
        the correlation of pixels as they lie.

    Raises:
      ValueError: the words name no scale.
    """
    if words not in grids:
        raise ValueError(f"{words!r} is none of {', '.join(filter(None, grids))}; give nothing for the papers' scale")
    grid = grids[words]
    first = grid["source"][0]
    c = base.base(title, question, claims)
    c.sources = {name: SOURCES[words][name] for name in grid["source"]}
    c.generators = {name: generator(words, name, first) for name in grid["generator"] if name not in base.CONTROLS}
    c.model_sizes = model_sizes(words, tuple(name for name in grid.get("model_size", ()) if name))
    c.augmentations = augmentations(first)
    with c.ignore_type():  # every axis is a tuple, so that --config.axes.seed=0,1 may make any of them longer
        c.axes = {name: grid.get(name, (value,)) for name, value in base.AXES.items()}
    c.without = (without or {}).get(words, ())
    c.samples = _SAMPLES[words]
    if with_descriptor:
        c.descriptor = describing(words, first)
        c.audit.detectors = (*c.audit.detectors, "correlation-unturned")
    return c


def one_at_a_time(axes: Grid) -> tuple[dict[str, Any], ...]:
    """Return the cells to leave out so that at most one of these axes is not at its first value."""
    return tuple(
        {one: this, other: that}
        for one, other in itertools.combinations(axes, 2)
        for this in axes[one][1:]
        for that in axes[other][1:]
    )
