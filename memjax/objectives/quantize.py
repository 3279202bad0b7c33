"""How encoder outputs become codes, and how the codes follow them: vector quantization with a moving codebook.

Van den Oord et al. 2017 (arXiv 1711.00937), appendix A.1: a code is the moving average of the outputs nearest to it,

    N_i <- decay N_i + (1 - decay) n_i                           (1)  n_i outputs are nearest to code i,
    m_i <- decay m_i + (1 - decay) (their sum)                   (2)
    e_i  = m_i / N'_i,   N'_i = (N_i + epsilon) / (sum N + k epsilon) * sum N        (3)

and, as in Khader et al. 2023 (Sci Rep 13:7303, its code), a code that is used too little is then moved to an output
drawn from the batch. Codes are no parameters: no gradient reaches them. Outputs and codes are float32 here, and all is
a function of the whole batch, so that it does not depend on how that is spread over devices.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from memjax.trees import Tree

_BLOCK = 1 << 21  # distances in memory at a time, over all devices; with four times as many processors are slower
_SPREAD = 0.01  # standard deviation, times sqrt(d), between copies of one output


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Codebook:
    """Codes, and the moving averages that they are made of; three buffers, so that all can be donated."""

    codes: Tree  # float32 [k, d]; in trees of the same form, its shape or its sharding
    counts: Tree  # [k]: N
    sums: Tree  # [k, d]: m


def nearest(h: Float[Array, "*b d"], codes: Float[Array, "k d"]) -> Int[Array, "*b"]:
    """Return the index of the code at the smallest distance from each h, the lowest one of equals.

    Blocks of codes are gone through with a running minimum: never are all distances in memory. They are relative to
    the codes' mean, since |h|^2 - 2 h e + |e|^2 loses what h and e have in common.
    """
    h, codes = (lax.stop_gradient(x.astype(jnp.float32)) for x in (h, codes))
    k, d = codes.shape
    flat = h.reshape(-1, d)
    block = max(1, min(k, _BLOCK // max(len(flat), 1)))
    centre = jnp.mean(codes, 0)
    flat, codes = flat - centre, codes - centre
    half = jnp.sum(jnp.square(codes), 1) / 2
    rest = -k % block
    blocks = (
        jnp.pad(codes, ((0, rest), (0, 0))).reshape(-1, block, d),
        jnp.pad(half, (0, rest), constant_values=jnp.inf).reshape(-1, block),
        jnp.arange(0, k, block, dtype=jnp.int32),
    )

    def closer(best: tuple[Array, Array], one: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        codes, half, start = one
        distance = half - jnp.matmul(flat, codes.T, precision=lax.Precision.HIGHEST)  # half of it, without |h|^2
        least = jnp.min(distance, 1)
        # Not `argmin`, which takes XLA for processors ten times as long.
        at = jnp.min(jnp.where(distance == least[:, None], jnp.arange(block, dtype=jnp.int32), block), 1)
        is_closer = least < best[0]
        return (jnp.where(is_closer, least, best[0]), jnp.where(is_closer, start + at, best[1])), None

    first = jnp.full(len(flat), jnp.inf), jnp.zeros(len(flat), jnp.int32)
    (_, ids), _ = lax.scan(closer, first, blocks)
    return ids.reshape(h.shape[:-1])


def first_codebook(h: Float[Array, "*b d"], key: Key[Array, ""], n_codes: int) -> Codebook:
    """Return a codebook of `n_codes` outputs drawn from the first batch without replacement.

    If there are fewer outputs than codes they are repeated, each copy a little beside (see `_drawn`).
    """
    codes = _drawn(lax.stop_gradient(h), key, n_codes)
    return Codebook(codes=codes, counts=jnp.ones(n_codes), sums=jnp.copy(codes))


def updated(
    codebook: Codebook,
    h: Float[Array, "*b d"],
    ids: Int[Array, "*b"],
    key: Key[Array, ""],
    *,
    decay: float = 0.99,
    epsilon: float = 1e-7,
    restart_below: float = 1.0,
) -> Codebook:
    """Return the codebook after a batch: eq. 1 to 3, then restarts.

    Args:
      codebook: what the batch was quantized with.
      h: the encoder's outputs.
      ids: their codes, see `nearest`.
      key: of the outputs that codes are moved to.
      decay: of both averages.
      epsilon: of eq. 3.
      restart_below: codes whose N is less are moved to outputs drawn from the batch; 0: none. Their averages stay, so
        such a code moves at every step until N has reached this. In the long run N is the number of outputs of a batch
        that choose the code: with fewer outputs than codes, some are always on the move.
    """
    h, ids = lax.stop_gradient(h.astype(jnp.float32)), ids.reshape(-1)
    n_codes, d = codebook.codes.shape
    flat = h.reshape(-1, d)
    with_one = jnp.concatenate([flat, jnp.ones((len(flat), 1))], 1)  # counts and sums in one pass
    of_batch = jnp.zeros((n_codes, d + 1)).at[ids].add(with_one)
    counts = decay * codebook.counts + (1 - decay) * of_batch[:, -1]
    sums = decay * codebook.sums + (1 - decay) * of_batch[:, :-1]
    total = jnp.sum(counts)
    smoothed = (counts + epsilon) / (total + n_codes * epsilon) * total
    codes = sums / smoothed[:, None]
    if restart_below > 0:
        codes = jnp.where((counts < restart_below)[:, None], _drawn(flat, key, n_codes), codes)
    return Codebook(codes=codes, counts=counts, sums=sums)


def straight_through(h: Float[Array, "..."], q: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return q, with the gradient of h in its place: exactly both (h + (q - h) would round)."""
    return lax.stop_gradient(q) + (h - lax.stop_gradient(h))


def commitment(h: Float[Array, "b *space d"], q: Float[Array, "b *space d"]) -> Float[Array, "b"]:
    """Return the mean squared distance of each image's outputs from their codes, which are held fixed."""
    return jnp.mean(jnp.square(h - lax.stop_gradient(q)), axis=tuple(range(1, h.ndim)))


def tally(ids: Int[Array, "*b"], n_codes: int) -> Float[Array, "k"]:
    """Return how often each code was chosen."""
    return jnp.zeros(n_codes).at[ids.reshape(-1)].add(1.0)


def perplexity(counts: Float[Array, "k"]) -> Float[Array, ""]:
    """Return the exponential of the entropy of the codes: k if all are used alike, 1 if only one is."""
    share = counts / jnp.sum(counts)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(share, share)))


def usage(counts: Float[Array, "k"]) -> Float[Array, ""]:
    """Return the share of codes that were chosen at all, 0 to 1."""
    return jnp.mean(counts > 0)


def _drawn(h: Float[Array, "*b d"], key: Key[Array, ""], n: int) -> Float[Array, "n d"]:
    """Return n outputs of the batch, drawn without replacement.

    If there are fewer, all are repeated as often as needed, and every one of them, the first included, gets normal
    noise of standard deviation 0.01 / sqrt(d) of its own: equal codes could never part.
    """
    flat = h.astype(jnp.float32).reshape(-1, h.shape[-1])
    choice_key, noise_key = jax.random.split(key)
    copies = -(-n // len(flat))
    chosen = jax.random.permutation(choice_key, copies * len(flat))[:n] % len(flat)
    drawn = flat[chosen]
    if copies > 1:
        drawn += _SPREAD / h.shape[-1] ** 0.5 * jax.random.normal(noise_key, drawn.shape)
    return drawn
