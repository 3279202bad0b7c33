"""What the axes of an array of images count, told from its shape alone.

a file of items                     one item a file
[n, h, w]           grey pictures   [h, w]              grey picture
[n, h, w, c≤8]      pictures        [h, w, c≤8]         picture
[n, c≤8, h, w>8]    pictures        [d, h, w>8]         volume
[n, d, h, w]        volumes         [d, h, w, c≤8]      volume
[n, d, h, w, c≤8]   volumes         [c≤8, d, h, w]      volume
[n, c≤8, d, h, w]   volumes
"""

import dataclasses

import numpy as np

from memjax.data.readers.base import ROW_COLUMN, BadFile, Layout

VOLUME_AXES = ("depth", "row", "column")

_MAX_CHANNELS = 8  # more than any contrast set of the field, fewer than any picture's side


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrayAxes:
    """The reading of one shape: `space` and `channels` of an item, and where in an item its channels are."""

    has_items: bool
    space: tuple[int, ...]
    channels: int
    channel_axis: int | None  # within an item

    @property
    def is_volume(self) -> bool:
        """Whether an item has three spatial axes."""
        return len(self.space) == 3

    @property
    def names(self) -> tuple[str, ...]:
        """The names of an item's spatial axes."""
        return VOLUME_AXES if self.is_volume else ROW_COLUMN

    def channels_last(self, item: np.ndarray) -> np.ndarray:
        """Return an item as [*space, channels]."""
        return item[..., None] if self.channel_axis is None else np.moveaxis(item, self.channel_axis, -1)


def array_axes(shape: tuple[int, ...], *, has_items: bool, layout: Layout) -> ArrayAxes:
    """Read a shape by the table above; `layout="volumes"` reads [n, a, b, c] as volumes whatever the sizes.

    Raises:
      BadFile: no row of the table fits, or an axis is empty.
    """
    item = shape[1:] if has_items else shape
    if 0 in shape:
        raise BadFile(f"holds no values: its shape is {list(shape)}")
    channel_axis = _channel_axis(item, has_items=has_items, layout=layout)
    space = tuple(size for axis, size in enumerate(item) if axis != channel_axis)
    if len(space) not in (2, 3):
        raise BadFile(
            f"has shape {list(shape)}, of which {list(item)} would be one image; expected two or three axes of space "
            f"and at most {_MAX_CHANNELS} channels, first or last; say with --array_axis=items or =space what the "
            "first axis counts"
        )
    if len(space) == 2 and layout == "volumes":
        raise BadFile(f"has shape {list(shape)}: pictures, no volumes; leave out --layout=volumes")
    channels = 1 if channel_axis is None else item[channel_axis]
    return ArrayAxes(has_items=has_items, space=space, channels=channels, channel_axis=channel_axis)


def counts_items(shape: tuple[int, ...], layout: Layout) -> bool:
    """Say whether a lone array's first axis counts items: from three axes on, unless it is a colour picture.

    With `layout="volumes"` three axes are one volume.
    """
    if len(shape) == 3:
        return shape[-1] > _MAX_CHANNELS and layout != "volumes"
    return len(shape) > 3


def _channel_axis(item: tuple[int, ...], *, has_items: bool, layout: Layout) -> int | None:
    if len(item) < 3 or (len(item) == 3 and layout == "volumes"):
        return None
    if item[-1] <= _MAX_CHANNELS:
        return len(item) - 1
    if item[0] <= _MAX_CHANNELS and (has_items or len(item) == 4):  # a file [5, h, w] is a volume of five slices
        return 0
    return None
