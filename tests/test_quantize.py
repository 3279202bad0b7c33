"""Codes: the nearest one, a codebook that follows the outputs as numpy says, and the same on one device and eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.mesh import batch_sharding, train_mesh
from memjax.objectives import quantize

K, D = 11, 3


def normal(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def codebook_of(codes: np.ndarray, counts: np.ndarray | None = None) -> quantize.Codebook:
    counts = np.ones(len(codes), np.float32) if counts is None else counts
    return quantize.Codebook(
        codes=jnp.asarray(codes), counts=jnp.asarray(counts), sums=jnp.asarray(codes * counts[:, None])
    )


def distances(h: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.square(np.float64(h).reshape(-1, 1, h.shape[-1]) - np.float64(codes)).sum(-1)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (1, 1, 2, 2)])
@pytest.mark.parametrize("block", [1, 60, 1 << 24])  # one code at a time, blocks that do not divide, all at once
def test_nearest_is_that_of_brute_force(shape, block, monkeypatch):
    monkeypatch.setattr(quantize, "_BLOCK", block)
    h, codes = normal((*shape, D)), normal((K, D), 1)
    ids = quantize.nearest(jnp.asarray(h), jnp.asarray(codes))
    assert ids.shape == shape and ids.dtype == jnp.int32
    assert np.array_equal(ids.reshape(-1), distances(h, codes).argmin(1))


def test_nearest_of_codes_far_from_the_origin():
    """All at a hundred, a few hundredths apart: squares of 1e4 would leave float32 no digit for the difference."""
    h, codes = 100 + 0.05 * normal((500, D)), 100 + 0.05 * normal((K, D), 1)
    wanted = distances(h, codes)
    found = np.asarray(quantize.nearest(jnp.asarray(h), jnp.asarray(codes)))
    assert np.array_equal(found, wanted.argmin(1))


def test_equals_go_to_the_lower_index(monkeypatch):
    codes = normal((4, D))[[0, 1, 1, 2, 0, 3, 2]]
    for block in (1, 8, 1 << 24):
        monkeypatch.setattr(quantize, "_BLOCK", block)
        ids = quantize.nearest(jnp.asarray(codes), jnp.asarray(codes))
        assert np.array_equal(ids, [0, 1, 1, 3, 0, 5, 3])


def test_all_distances_are_never_in_memory():
    """65,536 outputs and 16,384 codes: 4 GiB of distances, and less than an eighth of it is taken."""
    h, codes = jax.ShapeDtypeStruct((65_536, 8), jnp.float32), jax.ShapeDtypeStruct((16_384, 8), jnp.float32)
    memory = jax.jit(quantize.nearest).lower(h, codes).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 4 * 65_536 * 16_384 / 8


def test_the_first_codes_are_different_outputs():
    h = normal((3, 5, D))
    book = quantize.first_codebook(jnp.asarray(h), jax.random.key(0), K)
    rows = {tuple(row) for row in h.reshape(-1, D)}
    assert len({tuple(row) for row in np.asarray(book.codes)}) == K
    assert all(tuple(row) in rows for row in np.asarray(book.codes))
    assert np.array_equal(book.counts, np.ones(K)) and np.array_equal(book.sums, book.codes)
    other = quantize.first_codebook(jnp.asarray(h), jax.random.key(1), K)
    assert not np.array_equal(other.codes, book.codes)


def test_too_few_outputs_are_repeated_with_noise():
    n, d, k = 4, 16, 4000
    h = normal((n, d))
    codes = np.asarray(quantize.first_codebook(jnp.asarray(h), jax.random.key(0), k).codes)
    nearest = distances(codes, h).argmin(1)
    assert np.array_equal(np.bincount(nearest), [k // n] * n)
    noise = codes - h[nearest]
    assert abs(noise.std() / (0.01 / 4) - 1) < 0.02 and abs(noise.mean()) < 1e-4
    assert len(np.unique(codes, axis=0)) == k


@pytest.mark.parametrize("jitted", [False, True])
def test_all_three_can_be_donated(jitted):
    first = functools.partial(quantize.first_codebook, n_codes=K)
    h, key = jnp.asarray(normal((20, D))), jax.random.key(0)
    book = (jax.jit(first) if jitted else first)(h, key)
    pointers = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(book)}
    assert len(pointers) == 3
    step = jax.jit(quantize.updated, donate_argnums=0)
    for _ in range(2):
        book = step(book, h, jnp.arange(20) % K, key)
    assert np.isfinite(book.codes).all()


def by_numpy(codes, counts, sums, h, ids, drawn, decay, epsilon, restart_below):
    """One update in float64, code by code."""
    for i in range(len(codes)):
        mine = h[ids == i]
        counts[i] = decay * counts[i] + (1 - decay) * len(mine)
        sums[i] = decay * sums[i] + (1 - decay) * mine.sum(0)
    for i in range(len(codes)):
        smooth = (counts[i] + epsilon) / (counts.sum() + len(codes) * epsilon) * counts.sum()
        codes[i] = drawn[i] if counts[i] < restart_below else sums[i] / smooth


@pytest.mark.parametrize(
    ("decay", "epsilon", "restart_below"), [(0.9, 1e-3, 1.0), (0.5, 1e-7, 2.5), (0.9, 0.3, 0.0), (0.99, 1e-7, 1.0)]
)
def test_updates_are_those_of_numpy(decay, epsilon, restart_below):
    rng = np.random.default_rng(0)
    book = codebook_of(normal((K, D)), rng.uniform(0.5, 3, K).astype(np.float32))
    codes, counts, sums = (np.array(x, np.float64) for x in (book.codes, book.counts, book.sums))
    n_restarted = n_kept = 0
    update = jax.jit(functools.partial(quantize.updated, decay=decay, epsilon=epsilon, restart_below=restart_below))
    for t in range(6):
        key = jax.random.key(t)
        h = normal((2, 4, 3, D), 10 + t) + 1
        ids = distances(h, np.asarray(book.codes)).argmin(1).reshape(h.shape[:-1]).astype(np.int32)
        book = update(book, jnp.asarray(h), ids, key)
        flat = np.float64(h.reshape(-1, D))
        is_restarted = np.isin(np.asarray(book.codes), h.reshape(-1, D)).all(1)
        drawn = np.where(np.expand_dims(is_restarted, 1), book.codes, np.nan)
        by_numpy(codes, counts, sums, flat, ids.reshape(-1), drawn, decay, epsilon, restart_below)
        for found, wanted in ((book.counts, counts), (book.sums, sums), (book.codes, codes)):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        restarted = np.asarray(book.codes)[is_restarted]
        assert len(np.unique(restarted, axis=0)) == len(restarted)  # drawn without replacement
        n_restarted += is_restarted.sum()
        n_kept += (~is_restarted).sum()
    assert n_kept > 0 and bool(n_restarted > 0) is (restart_below > 0)


def test_codes_become_the_means_of_their_outputs():
    """Two clusters, two codes: in the long run each is its cluster's mean, and its count the cluster's size."""
    h = np.concatenate([normal((6, D)) / 10 - 3, normal((10, D), 1) / 10 + 3])
    book = codebook_of(np.array([[-1.0] * D, [1.0] * D], np.float32))

    @jax.jit
    def step(book, key):
        return quantize.updated(book, jnp.asarray(h), quantize.nearest(jnp.asarray(h), book.codes), key, decay=0.8)

    for t in range(80):
        book = step(book, jax.random.key(t))
    np.testing.assert_allclose(book.codes, [h[:6].mean(0), h[6:].mean(0)], rtol=1e-4)
    np.testing.assert_allclose(book.counts, [6, 10], rtol=1e-4)


def test_eight_devices_quantize_as_one_does():
    mesh = train_mesh(fsdp=2)
    batches = [normal((16, 2, 3, D), t) for t in range(4)]

    def step(book, h, key):
        ids = quantize.nearest(h, book.codes)
        q = book.codes[ids]
        loss = quantize.commitment(h, q).mean() + quantize.straight_through(h, q).sum()
        told = ids, loss, quantize.perplexity(quantize.tally(ids, K))
        return quantize.updated(book, h, ids, key, decay=0.8, restart_below=5.0), told

    def run(place):
        book = jax.jit(functools.partial(quantize.first_codebook, n_codes=K))(place(batches[0]), jax.random.key(9))
        told = []
        for t, h in enumerate(batches):
            book, facts = jax.jit(step)(book, place(h), jax.random.key(t))
            told.append(jax.device_get(facts))
        return jax.device_get(book), told

    one = run(jnp.asarray)
    eight = run(functools.partial(jax.device_put, device=batch_sharding(mesh)))
    for t in range(len(batches)):
        assert np.array_equal(one[1][t][0], eight[1][t][0])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), one, eight)
    restarted = np.isin(one[0].codes, batches[-1].reshape(-1, D)).all(1)
    assert restarted.any() and not restarted.all()


def test_straight_through_is_exact():
    h, q = jnp.asarray(normal((50, D)) * 1e3), jnp.asarray(normal((50, D), 1) * 1e-3)
    y, back = jax.vjp(quantize.straight_through, h, q)
    assert np.array_equal(y, q)
    dy = jnp.asarray(normal((50, D), 2))
    dh, dq = back(dy)
    assert np.array_equal(dh, dy) and not np.any(dq)


def test_commitment_pulls_outputs_to_codes_only():
    h, q = normal((2, 3, 4, D)), normal((2, 3, 4, D), 1)
    losses, back = jax.vjp(quantize.commitment, jnp.asarray(h), jnp.asarray(q))
    np.testing.assert_allclose(losses, np.square(h - q).reshape(2, -1).mean(1), rtol=1e-6)
    dh, dq = back(jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(dh, 2 * (h - q) / h[0].size * np.array([1, -2])[:, None, None, None], rtol=1e-5)
    assert not np.any(dq)


def test_no_gradient_reaches_the_codebook():
    book, h = codebook_of(normal((K, D))), jnp.asarray(normal((20, D), 1))

    def total(h):
        ids = quantize.nearest(h, book.codes)
        new = quantize.updated(book, h, ids, jax.random.key(0))
        return new.codes.sum() + new.sums.sum() + quantize.first_codebook(h, jax.random.key(1), K).codes.sum()

    assert not np.any(jax.grad(total)(h))


def test_perplexity_and_usage():
    assert float(quantize.perplexity(jnp.ones(16))) == pytest.approx(16, rel=1e-6)
    assert float(quantize.perplexity(jnp.array([0.0, 5.0, 0.0]))) == pytest.approx(1)
    counts = quantize.tally(jnp.array([[0, 0], [2, 5]]), 8)
    assert np.array_equal(counts, [2, 0, 1, 0, 0, 1, 0, 0])
    assert float(quantize.perplexity(counts)) == pytest.approx(2**1.5, rel=1e-6)
    assert float(quantize.usage(counts)) == 3 / 8
