"""The tiled distance of Carlini et al. 2023: as far apart as the tile that is most so.

An image is cut into tiles, four along each axis (fewer where an axis is shorter than 16); the distance of two images is
the largest of their tiles' root mean squared differences. A common background makes whole images near, but not every
tile of them.

Every pair is scored, on the devices, tile by tile: |x - y|^2 = |x|^2 + |y|^2 - 2 <x, y>, so that all of it is matrix
products, as many multiply-adds as a plain search. Blocks of scores go to the host, where those that may belong to
somebody's list are kept. Products of float32 do not know small differences, so pairs that are near are scored once more
in float64; of the others the distance is off by less than a part in 5000.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from memjax.audit.describe import Images, unit_range
from memjax.audit.detectors.rescored import Listed, best_partners
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.null import Law
from memjax.audit.pairs.shortlist import Shortlist
from memjax.mesh import QUERY, narrowed

_TILES = 4  # along an axis
_SHORTEST = 4  # positions along a tile's edge, or there are fewer tiles
_BLOCK_BYTES = 64 << 20  # a block of queries, of gallery images or of scores
_PAIR_BYTES = 64 << 20  # pairs scored once more
_NEAR = 0.05  # a distance of so little, of a range of 2, is computed exactly


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiled:
    """Take the largest of the tiles' root mean squared differences of images in [-1, 1], negative."""

    name: str = "tiled-l2"
    title: str = "Largest distance of tiles"
    source: str = "Carlini et al. 2023"
    invariant_to: tuple[str, ...] = ()
    score_name: str = "negative largest distance of tiles"
    law: Law = "distance"
    published: float | None = None  # theirs, 0.15 of the range, is for natural images of 512 x 512
    is_control: bool = False
    digest: str = ""

    def search(self, query: Images, gallery: Images, setting: Setting) -> Found:
        """Find the best partners among all pairs."""
        parts = []
        for number, near in enumerate(_search(query, gallery, setting)):
            owner, place = np.nonzero(near.id >= 0)
            two = (owner, near.id[owner, place])
            parts.append((*(two if number == 0 else two[::-1]), near.score[owner, place]))
        ids = [np.concatenate(both) for both in zip(*parts, strict=True)]
        _, first = np.unique(ids[0] * len(gallery) + ids[1], return_index=True)
        queries, theirs, score = (column[first] for column in ids)
        nothing = np.zeros(len(first), np.int16)
        chosen = Listed(queries, theirs, nothing, score.astype(np.float64), nothing)
        is_near = np.flatnonzero(score > -_NEAR)
        chosen.score[is_near] = _exact(queries[is_near], theirs[is_near], query, gallery, setting.channels)
        return best_partners(chosen, chosen.score, n_queries=len(query), n_gallery=len(gallery), k=setting.k)


def tiles(space: tuple[int, ...]) -> list[np.ndarray]:
    """Return the places, in the flattened image, of each tile's pixels."""
    place = np.arange(int(np.prod(space))).reshape(space)
    parts = []
    for axis, length in enumerate(space):
        edges = np.linspace(0, length, min(_TILES, max(1, length // _SHORTEST)) + 1).astype(int)
        parts.append([(axis, slice(a, b)) for a, b in itertools.pairwise(edges.tolist())])
    return [place[tuple(cut for _, cut in sorted(chosen))].ravel() for chosen in itertools.product(*parts)]


def _search(query: Images, gallery: Images, setting: Setting) -> tuple[Shortlist, Shortlist]:
    """Go through all pairs; return both sides' lists, a few longer than wanted."""
    first = unit_range(query, np.zeros(1, np.int64), setting.channels)
    cut = tiles(first.shape[1:-1])
    longest = max(map(len, cut))
    n_channels = first.shape[-1]
    # Tiles that are smaller are filled up with a pixel that is 0 in all images: the last, added below.
    index = np.full((len(cut), longest), first[0, ..., 0].size)
    for row, places in zip(index, cut, strict=True):
        row[: len(places)] = places
    size = np.array([len(places) * n_channels for places in cut], np.float32)
    described = 4 * index.size * n_channels
    mesh = narrowed(setting.mesh, len(query))
    rows = max(1, min(len(query), _BLOCK_BYTES // described, 4096))
    rows = -(-rows // mesh.size) * mesh.size
    width = max(1, min(len(gallery), _BLOCK_BYTES // described, _BLOCK_BYTES // (4 * rows)))
    spread, whole = NamedSharding(mesh, P(QUERY)), NamedSharding(mesh, P())

    def described_block(images: Images, start: int, n: int) -> np.ndarray:
        ids = np.arange(start, min(start + n, len(images)))
        flat = unit_range(images, ids, setting.channels).reshape(len(ids), -1, n_channels)
        padded = np.zeros((n, flat.shape[1] + 1, n_channels), np.float32)
        padded[: len(ids), :-1] = flat
        return padded[:, index].reshape(n, len(cut), -1)

    by_query, by_gallery = (Shortlist.nothing(len(images), setting.k) for images in (query, gallery))
    done = setting.progress(f"{setting.what}, tiles", len(query) * len(gallery))
    for start in range(0, len(query), rows):
        x = jax.device_put(described_block(query, start, rows), spread)
        for left in range(0, len(gallery), width):
            y = jax.device_put(described_block(gallery, left, width), whole)
            block = np.asarray(_block_scores(x, y, size))[: len(query) - start, : len(gallery) - left]
            _take(by_query, block, start, left)
            _take(by_gallery, block.T, left, start)
            done(block.size)
    return by_query, by_gallery


@jax.jit
def _block_scores(
    x: Float[Array, "s tiles p"], y: Float[Array, "n tiles p"], size: Float[Array, " tiles"]
) -> Float[Array, "s n"]:
    """Return the negative largest root mean squared difference of tiles."""

    def one(largest: Array, tile: tuple[Array, Array, Array]) -> tuple[Array, None]:
        a, b, n = tile
        product = jnp.matmul(a, b.T, precision=lax.Precision.HIGHEST)
        square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * product
        return jnp.maximum(largest, square / n), None

    start = jnp.zeros((len(x), len(y)), jnp.float32)
    largest, _ = lax.scan(one, start, (x.swapaxes(0, 1), y.swapaxes(0, 1), size))
    return -jnp.sqrt(largest)


def _take(lists: Shortlist, block: np.ndarray, first: int, other: int) -> None:
    """Add a block of scores [rows, others] to the lists from `first` on."""
    width = lists.score.shape[1]
    floor = lists.floor(width)[first : first + len(block)]
    if block.shape[1] > width:
        floor = np.maximum(floor, np.partition(block, -width, axis=1)[:, -width])
    row, column = np.nonzero(block >= floor[:, None])
    lists.add(row + first, column + other, block[row, column], np.zeros(len(row), np.int16))


def _exact(
    queries: np.ndarray, theirs: np.ndarray, query: Images, gallery: Images, channels: tuple[int, ...] | None
) -> np.ndarray:
    """Score pairs of ids in float64, [p]."""
    shape = query.block(0, 1).shape[1:]
    cut = tiles(shape[:-1])
    step = max(1, _PAIR_BYTES // (16 * int(np.prod(shape))))
    scores = np.zeros(len(queries))
    for part in (slice(i, i + step) for i in range(0, len(scores), step)):
        x = unit_range(query, queries[part], channels).astype(np.float64)
        square = (x - unit_range(gallery, theirs[part], channels)) ** 2
        by_pixel = square.reshape(len(x), -1, square.shape[-1]).sum(-1)
        largest = np.max([by_pixel[:, places].mean(1) for places in cut], axis=0) / square.shape[-1]
        scores[part] = -np.sqrt(largest)
    return scores
