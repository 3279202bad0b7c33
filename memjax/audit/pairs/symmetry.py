r"""All orientations of a pair for little more than the price of one: the group of flips and turns, block-diagonalised.

Score an image x with every orientation g of an image y: f(g) = <x, g y>, g in G. Trying them costs |G| D multiply-adds
a pair of D pixels. But G only moves pixels about, so f is a correlation *over the group*, and like any correlation it
is short in the group's own Fourier basis.

*Pixels.* With p·g for the place from which g fetches pixel p, (g y)[p] = y[p·g] and p·(gh) = (p·g)·h. Each pixel r that
stands for its orbit unfolds into a function on G, x_r(a) = x[r·a], and

    f(g) = sum_r sum_a x_r(a) y_r(a g).                                                                          (1)

*Fourier.* Let rho run over the irreducible real orthogonal representations of G (d x d matrices with rho(ab) =
rho(a) rho(b)), and X_rho(r) = sqrt(d / |G|) sum_a x_r(a) rho(a). The numbers of all X_rho are an orthogonal transform
of the image (Schur), and (1) becomes, column j of Y against column j' of X,

    M_rho[j, j'] = sum_r sum_i Y_rho(r)[i, j] X_rho(r)[i, j'],
            f(g) = sum_rho sum_jj' rho(g)[j', j] M_rho[j, j'].                                                   (2)

A pair now costs sum_rho d^3 / |G| D multiply-adds: D for flips alone, 1.5 D for the eight orientations of a square,
2.67 D for the 48 of a cube. M is as many numbers as f, so what remains is a small sum of |G| terms for each pair.

*Pixels that do not move.* If H keeps r in place, x_r(ha) = x_r(a) for h in H, so the rows of X_rho(r) lie in the space
that rho(H) leaves alone. Only an orthonormal basis U of it is kept, over the cosets Ha instead of the elements:
sqrt(|H| d / |G|) sum_Ha x[r·a] U' rho(a). So the transform stays orthogonal, D numbers to D, whatever the shape.

*Butterflies.* Flips form a normal subgroup, every representation here has a basis in which all of them are diagonal,
and each element is a flip f followed by a turn t. So both sums split in two: over flips with signs +-1 (a
Walsh-Hadamard transform), then over the at most six turns.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Shaped

from memjax.errors import UserError
from memjax.orientation import Orientation, orientations

Group = tuple[Orientation, ...]
Parts = tuple[Array, ...]  # one array an irreducible representation: [d, images, numbers]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["index"], meta_fields=["group", "stabilizers"])
@dataclasses.dataclass(frozen=True)
class Symmetry:
    """The transform (2) of images of one shape.

    `index[t][c, r]` is the place (in the flattened image with channels) of coset c of orbit r of the t-th kind, whose
    stabilizer is `stabilizers[t]` (indices into the group). None stands for all places in order.
    """

    index: tuple[Any, ...]
    group: Group
    stabilizers: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls,
        group: Group,
        shape: tuple[int, ...],
        *,
        channels: Sequence[int] | None = None,
        mask: np.ndarray | None = None,
    ) -> "Symmetry":
        """Prepare the transform.

        Args:
          group: orientations that keep `shape` and form a group (`check_group`). Flips of an axis of length 1 may be
            among them: they do nothing, which is as good as anything else.
          shape: of an image, [*space, channels].
          channels: those to use; None: all.
          mask: pixels to use, bool [*space]; None: all.

        Raises:
          UserError: the mask does not fit the group.
        """
        *space, n_channels = shape
        assert all(tuple(space[axis] for axis in g.axes) == tuple(space) for g in group), "see `check_group`"
        if mask is not None and not all(np.array_equal(g.apply(mask), mask) for g in group):
            raise UserError(
                "the mask changes under the orientations; make it symmetric, or audit with --symmetry=none."
            )
        chosen = np.arange(n_channels) if channels is None else np.asarray(channels)
        if len(group) == 1 and mask is None and len(chosen) == n_channels:
            return cls((None,), group, ((0,),))
        representatives = _representatives(group, tuple(space), mask)
        place = np.arange(int(np.prod(space)), dtype=np.int32).reshape(space)
        index = []
        for stabilizer, orbit in representatives.items():
            moved = np.stack([group[a].apply(place).ravel()[orbit] for a in _cosets(group, stabilizer)])
            index.append((moved[:, :, None] * n_channels + chosen).reshape(len(moved), -1).astype(np.int32))
        return cls(tuple(index), group, tuple(representatives))

    def split(self, flat: Shaped[Array, "n size"], values: Callable[[Array], Array]) -> Parts:
        """Transform images, inside jit: for each representation, and each column j of it, the numbers X[:, j].

        Args:
          flat: raw images, flattened with their channels.
          values: makes of raw pixels [n, some] the float32 numbers to transform; the same for every pixel.
        """
        found: list[list[list[Array]]] = [[[] for _ in range(rho.shape[1])] for rho in _representations(self.group)]
        for index, stabilizer in zip(self.index, self.stabilizers, strict=True):
            for columns, pieces in zip(found, self._split_kind(flat, values, index, stabilizer), strict=True):
                for column, piece in zip(columns, pieces, strict=True):
                    column.extend(piece)
        nothing = jnp.zeros((len(flat), 0), jnp.float32)
        return tuple(
            jnp.stack([jnp.concatenate(column or [nothing], axis=1) for column in columns]) for columns in found
        )

    def pick(self, flat: Shaped[Array, "n size"]) -> Shaped[Array, "n some"]:
        """Return the pixels that are used, as they are; only where the identity is the whole group."""
        assert len(self.group) == 1
        return jnp.concatenate(
            [flat if index is None else _gather(flat, index.reshape(-1)) for index in self.index], axis=1
        )

    def _split_kind(
        self, flat: Array, values: Callable[[Array], Array], index: Any, stabilizer: tuple[int, ...]
    ) -> list[list[list[Array]]]:
        """Transform the orbits of one kind: for each representation and column the rows, [n, orbits] each."""
        cosets = 1 if index is None else len(index)
        moved = flat if index is None else _gather(flat, index.reshape(-1))
        pixels = [values(part) for part in jnp.split(moved, cosets, axis=1)]
        if len(stabilizer) > 1:
            weights = _coset_weights(self.group, stabilizer)
            return [[_combine(column, pixels) for column in of_one] for of_one in weights]
        signs, rows = _characters(self.group)
        n_flips = len(signs)
        turns = range(0, len(self.group), n_flips)
        by_turn = [_combine(signs / np.sqrt(n_flips), pixels[t : t + n_flips]) for t in turns]
        return [
            [
                [
                    _combine([scale * rho[::n_flips, i, j]], [flipped[row] for flipped in by_turn])[0]
                    for i, row in enumerate(of_basis)
                ]
                for j in range(len(of_basis))
            ]
            for rho, of_basis in zip(_representations(self.group), rows, strict=True)
            for scale in [np.sqrt(len(of_basis) * n_flips / len(self.group))]
        ]


def products(query: Parts, gallery: Parts) -> list[list[Array]]:
    """Return M_rho[j, j'] of equation (2) for all pairs: for each representation, for each j, [j', s, n]."""
    found = []
    for x, y in zip(query, gallery, strict=True):
        d, s, m = x.shape
        # TF32 and bf16 passes would reorder near-ties on accelerators.
        one = functools.partial(
            jax.lax.dot_general,  # a transposed right side takes twice the time in bfloat16 on processors
            x.reshape(d * s, m),
            dimension_numbers=(((1,), (1,)), ((), ())),
            precision=jax.lax.Precision.HIGHEST,
            preferred_element_type=jnp.int32 if x.dtype == jnp.int8 else jnp.float32,
        )
        found.append([one(column).reshape(d, s, -1) for column in y])
    return found


def recombine(group: Group, pair_products: Sequence[Sequence[Array]]) -> list[Array]:
    """Return f(g) of equation (2) for every g of the group, [s, n] each."""
    signs, rows = _characters(group)
    n_flips = len(signs)
    scores: list[Array] = []
    for turn in range(0, len(group), n_flips):
        weights: list[list[float]] = [[] for _ in signs]
        terms: list[list[Array]] = [[] for _ in signs]
        for rho, of_basis, of_one in zip(_representations(group), rows, pair_products, strict=True):
            for jq, row in enumerate(of_basis):
                weights[row] += list(rho[turn, jq])
                terms[row] += [product[jq] for product in of_one]
        by_character = [_combine([w], t)[0] for w, t in zip(weights, terms, strict=True)]
        scores += _combine(signs.T, by_character)
    return scores


def dimensions(group: Group) -> list[int]:
    """Return the dimensions of the irreducible representations, in the order of `Parts`."""
    return [rho.shape[1] for rho in _representations(group)]


def multiply_adds(group: Group) -> float:
    """Return what a pair costs, in multiply-adds a pixel: sum over representations of d^3 / |G|."""
    return sum(d**3 for d in dimensions(group)) / len(group)


def check_group(group: Group, space: tuple[int, ...]) -> None:
    """Refuse orientations that change the shape, or are no group; say which ones the shape allows.

    Raises:
      UserError: as said.
    """
    allowed = orientations(space, "all")
    wrong = [g.name for g in group if g not in allowed]
    if wrong:
        raise UserError(
            f"images of {' x '.join(map(str, space))} have no orientation {wrong[0]}; they allow "
            f"{', '.join(g.name for g in allowed)}."
        )
    matrices = [_matrix(g) for g in group]
    known = {matrix.tobytes() for matrix in matrices}
    closed = all((a @ b).tobytes() in known for a in matrices for b in matrices)
    flips = [g.flips for g in group if g.axes == group[0].axes]
    in_order = tuple(Orientation(turn.axes, flip) for turn in group[:: len(flips)] for flip in flips) == group
    if not closed or not in_order or group[0] != allowed[0]:
        raise UserError(
            f"the orientations {', '.join(g.name for g in group)} are no group of flips and turns; "
            "use `orientations(space, symmetry)`."
        )


def check_mask(group: Group, mask: np.ndarray | None) -> None:
    """Refuse a mask that does not stay where it is under the orientations.

    Raises:
      UserError: as said.
    """
    if mask is not None and not all(np.array_equal(g.apply(mask), mask) for g in group):
        raise UserError("the mask changes under the orientations; make it symmetric, or audit with --symmetry=none.")


def _gather(flat: Array, index: Array) -> Array:
    """Fetch pixels; laid out image by image (XLA would choose pixel by pixel, and what follows is then 4x slower)."""
    moved = jnp.take(flat, index, axis=1, mode="clip")
    return with_layout_constraint(moved, Layout(major_to_minor=(0, 1)))


def _combine(weights: Any, parts: Sequence[Array]) -> list[Array]:
    """Multiply a small matrix [out, in] with a list of arrays, leaving out its zeros: one fused loop."""
    terms = [[float(w) * part for w, part in zip(row, parts, strict=True) if abs(w) > 1e-9] for row in weights]
    return [functools.reduce(operator.add, some) if some else jnp.zeros_like(parts[0]) for some in terms]


def _matrix(orientation: Orientation) -> np.ndarray:
    """Return the signed permutation matrix A of p·g = A p, places counted from the centre."""
    matrix = np.zeros((len(orientation.axes),) * 2, np.int64)
    for i, axis in enumerate(orientation.axes):
        matrix[axis, i] = -1 if i in orientation.flips else 1
    return matrix


@functools.lru_cache
def _table(group: Group) -> np.ndarray:
    """Return the multiplication table: `[a, b]` is the index of ab, first a then b on places."""
    matrices = [_matrix(g) for g in group]
    number = {matrix.tobytes(): i for i, matrix in enumerate(matrices)}
    return np.array([[number[(b @ a).tobytes()] for b in matrices] for a in matrices])


@functools.lru_cache
def _representations(group: Group) -> list[np.ndarray]:
    """Return the irreducible real representations, float64 [|G|, d, d] each, flips diagonal, small ones first.

    A generic symmetric matrix that commutes with the left multiplications of the group has each irreducible subspace of
    the functions on G as an eigenspace (all representations of these groups are of real type, so d copies of d
    dimensions). One copy of each kind, told apart by the traces, is kept.
    """
    table = _table(group)
    inverse = table.argmin(axis=1)  # the identity is element 0
    generic = np.random.default_rng(0).normal(size=len(group))
    generic = generic + generic[inverse]
    values, vectors = np.linalg.eigh(generic[table[inverse]])
    n_flips = sum(g.axes == group[0].axes for g in group)
    kinds: dict[tuple[int, ...], np.ndarray] = {}
    for space in np.split(vectors, np.flatnonzero(np.diff(values) > 1e-6) + 1, axis=1):
        rho = np.stack([space[table[a]].T @ space for a in range(len(group))])
        _, basis = np.linalg.eigh(sum(3.0**k * rho[k] for k in range(n_flips)))  # flips commute: one basis for all
        traces = np.rint(np.trace(rho, axis1=1, axis2=2)).astype(int)
        kinds.setdefault(tuple(traces.tolist()), basis.T @ rho @ basis)
    found = sorted(kinds.values(), key=lambda rho: rho.shape[1])
    assert sum(rho.shape[1] ** 2 for rho in found) == len(group)
    return found


@functools.lru_cache
def _characters(group: Group) -> tuple[np.ndarray, list[list[int]]]:
    """Return the signs [character, flip], and for each representation the character of each of its basis vectors."""
    flips = [set(g.flips) for g in group if g.axes == group[0].axes]
    signs = np.array([[(-1.0) ** len(c & f) for f in flips] for c in flips])
    rows = [
        [int(np.abs(signs - rho[: len(flips), i, i]).max(axis=1).argmin()) for i in range(rho.shape[1])]
        for rho in _representations(group)
    ]
    return signs, rows


@functools.lru_cache
def _cosets(group: Group, stabilizer: tuple[int, ...]) -> list[int]:
    """Return one element a of each coset Ha."""
    table, found, seen = _table(group), [], set()
    for a in range(len(group)):
        if a not in seen:
            found.append(a)
            seen |= {int(table[h, a]) for h in stabilizer}
    return found


@functools.lru_cache
def _coset_weights(group: Group, stabilizer: tuple[int, ...]) -> list[np.ndarray]:
    """Return for each representation the weights [column j, row u, coset] of pixels with a stabilizer."""
    weights = []
    for rho in _representations(group):
        value, vector = np.linalg.eigh(rho[list(stabilizer)].mean(axis=0))  # a projection: eigenvalues 0 and 1
        kept = vector[:, value > 0.5]
        scale = np.sqrt(rho.shape[1] * len(stabilizer) / len(group))
        weights.append(scale * np.einsum("iu,aij->jua", kept, rho[_cosets(group, stabilizer)]))
    return weights


def _representatives(
    group: Group, space: tuple[int, ...], mask: np.ndarray | None
) -> dict[tuple[int, ...], np.ndarray]:
    """Return one pixel of each orbit (inside the mask), by stabilizer; orbits of one kind get the same stabilizer."""
    place = np.arange(int(np.prod(space)), dtype=np.int32).reshape(space)
    first, still = place.ravel().copy(), np.zeros(place.size, np.uint64)
    for i, g in enumerate(group):
        moved = g.apply(place).ravel()
        np.minimum(first, moved, out=first)
        still |= (moved == place.ravel()).astype(np.uint64) << np.uint64(i)
    order = np.lexsort((still, first))
    chosen = order[np.unique(first[order], return_index=True)[1]]
    if mask is not None:
        chosen = chosen[mask.ravel()[chosen]]
    return {
        tuple(i for i in range(len(group)) if int(bits) >> i & 1): chosen[still[chosen] == bits]
        for bits in np.unique(still[chosen])
    }
