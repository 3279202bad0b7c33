"""Contrastive losses against plain loops, mining on planted cases, and patients who are nobody's negatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.objectives import contrastive
from memjax.objectives.contrastive import following, semi_hard, triplet, unit

# Compiled whole: one operation at a time takes longer.
nt_xent = jax.jit(contrastive.nt_xent, static_argnames="temperature")
strangers = jax.jit(contrastive.strangers)
relatives = jax.jit(contrastive.relatives)

B, D = 6, 5
RNG = np.random.default_rng(0)
IMAGE, VIEW = (RNG.normal(size=(B, D)).astype(np.float32) for _ in range(2))
ID = jnp.array([10, 11, 12, 13, 14, 14])  # an image may be in a batch twice, where one epoch ends
PATIENT = jnp.array([3, -1, 3, -1, 7, 7])


def same(i, j):
    """Whether two rows may show the same: said again, for two at a time."""
    return int(ID[i]) == int(ID[j]) or (int(PATIENT[i]) == int(PATIENT[j]) and int(PATIENT[i]) >= 0)


def test_strangers_are_neither_the_same_image_nor_the_same_patient():
    expected = [[not same(i, j) for j in range(B)] for i in range(B)]
    np.testing.assert_array_equal(strangers(ID, PATIENT), expected)
    assert expected[1][3]  # two whom nobody knows
    np.testing.assert_array_equal(jnp.argwhere(relatives(PATIENT) & ~jnp.eye(B, dtype=bool)),
                                  [[0, 2], [2, 0], [4, 5], [5, 4]])  # fmt: skip


def surprise(desc, anchor, positives, negatives, temperature):
    """The loss of one anchor: rows of `desc`, float64."""
    desc = desc / np.linalg.norm(desc, axis=1, keepdims=True)
    e = {j: np.exp(desc[anchor] @ desc[j] / temperature) for j in [*positives, *negatives]}
    return np.mean([-np.log(e[p] / sum(e.values())) for p in positives])


@pytest.mark.parametrize("with_patients", [False, True])
def test_nt_xent_is_that_of_a_loop(with_patients):
    desc = np.concatenate([IMAGE, VIEW]).astype(np.float64)
    expected = np.zeros(B)
    for anchor in range(2 * B):
        own, other = anchor % B, (anchor + B) % (2 * B)
        known = [j for j in range(2 * B) if j != anchor and int(PATIENT[j % B]) == int(PATIENT[own]) >= 0]
        positives = sorted({other, *known}) if with_patients else [other]
        negatives = [j for j in range(2 * B) if not same(own, j % B)]
        expected[own] += surprise(desc, anchor, positives, negatives, 0.3) / 2
    is_relative = relatives(PATIENT) if with_patients else None
    found = nt_xent(jnp.asarray(IMAGE), jnp.asarray(VIEW), strangers(ID, PATIENT), is_relative, temperature=0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nt_xent_of_extremes():
    unknown = strangers(jnp.arange(B), jnp.full(B, -1))
    alike = jnp.ones((B, D))
    np.testing.assert_allclose(nt_xent(alike, alike, unknown), np.log(2 * B - 1), rtol=1e-6)
    apart = 7.0 * jnp.eye(B)
    assert nt_xent(apart, apart, unknown).max() < 1e-4
    assert nt_xent(apart, jnp.roll(apart, 1, 0), unknown).min() > 10
    # Alone in its batch an image has nobody to be mistaken for, and at zero there is a gradient all the same.
    nobody = jnp.zeros((B, B), bool)
    np.testing.assert_allclose(nt_xent(jnp.asarray(IMAGE), jnp.asarray(VIEW), nobody), 0, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: nt_xent(x, x, unknown).sum()))(jnp.zeros((B, D)))
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("loss", ["ntxent", "triplet"])
def test_no_gradient_comes_from_the_same_patients_images(loss):
    """Only strangers are pushed away: those of the same patient may move and nothing changes."""

    def of_first(image):
        if loss == "ntxent":
            return nt_xent(image, jnp.asarray(VIEW), strangers(ID, PATIENT))[0]
        negative = semi_hard(image, jnp.asarray(VIEW), strangers(ID, PATIENT))
        return triplet(image, jnp.asarray(VIEW), image[negative], margin=100.0)[0]

    moved = np.array(jax.jit(jax.grad(of_first))(jnp.asarray(IMAGE)))
    assert (moved[2] == 0).all() and (moved[0] != 0).all()
    assert (np.abs(moved[[1, 3, 4, 5]]).sum(1) > 0).sum() == (4 if loss == "ntxent" else 1)


def test_triplets():
    a, p, n = (jnp.asarray(RNG.normal(size=(B, D)), jnp.float32) for _ in range(3))
    near, far = (np.linalg.norm(np.asarray(a - x, np.float64), axis=1) ** 2 for x in (p, n))
    for margin in (0.2, 5.0):
        np.testing.assert_allclose(triplet(a, p, n, margin=margin), np.maximum(near - far + margin, 0), rtol=1e-4,
                                   atol=1e-5)  # fmt: skip
    unit_a = unit(a)
    np.testing.assert_allclose(jnp.linalg.norm(unit_a, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit(3 * a), unit_a, atol=1e-6)


def test_the_semi_hard_negative_is_the_nearest_beyond_the_positive():
    # On a line: the positive of 0 is at 2, strangers at 1 (harder), 3 (semi-hard) and 9 (easy).
    image = jnp.array([[0.0], [1.0], [3.0], [9.0]])
    view = image + jnp.array([[2.0], [0.1], [0.1], [0.1]])
    all_strangers = ~jnp.eye(4, dtype=bool)
    np.testing.assert_array_equal(semi_hard(image, view, all_strangers), [2, 0, 1, 2])
    # The one at 3 is the same patient: the next one beyond is at 9.
    assert semi_hard(image, view, all_strangers.at[0, 2].set(False))[0] == 3
    # All strangers are nearer than the positive: the farthest of them.
    np.testing.assert_array_equal(semi_hard(image, image + 100, all_strangers), [3, 3, 3, 0])
    # Nobody is a stranger.
    np.testing.assert_array_equal(semi_hard(image, view, jnp.zeros((4, 4), bool)), range(4))


def test_the_following_negative_is_the_next_stranger():
    is_stranger = strangers(jnp.arange(5), jnp.array([0, 0, 1, 1, 0]))
    np.testing.assert_array_equal(following(is_stranger), [2, 2, 4, 4, 2])
    np.testing.assert_array_equal(following(jnp.zeros((3, 3), bool)), range(3))
