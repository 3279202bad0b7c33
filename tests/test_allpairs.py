"""The kernel against a float64 brute force that knows nothing of blocks, devices or candidates."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memjax.audit import allpairs as kernel
from memjax.audit.allpairs import allpairs
from memjax.audit.describe import ArrayImages, Descriptor
from memjax.audit.refine import rounding_slack
from memjax.data.manifest import intensity_range
from memjax.mesh import audit_mesh
from memjax.orientation import orientations

SCORE_TOLERANCE = 2e-6  # float32 dot products of at most a few thousand numbers
TIE = 1e-9  # scores closer than this are equal; the lower id wins


def image_set(images):
    return ArrayImages(images, np.array([intensity_range(image) for image in images], np.float32))


def brute_force(query, gallery, group, descriptor, *, exclude_self=False):
    """Best score and orientation of every pair, float64, the textbook way."""

    def values(image, low, high):
        image = image.astype(np.float64)
        if descriptor.channels is not None:
            image = image[..., list(descriptor.channels)]
        if descriptor.mask is not None:
            image = image[descriptor.mask]
        if descriptor.score == "msd":
            return np.clip((image - low) / ((high - low) or 1) * 2 - 1, -1, 1).ravel()
        return image.ravel()

    def score(x, y):
        if descriptor.score == "msd":
            return -np.mean((x - y) ** 2)
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return -np.inf
        return np.corrcoef(x, y)[0, 1]

    best = np.full((len(query), len(gallery)), -np.inf)
    orientation = np.zeros(best.shape, int)
    xs = [values(image, *r) for image, r in zip(query.images, query.ranges.astype(float), strict=True)]
    for g, turn in enumerate(group):
        turned = [turn.apply(image) for image in gallery.images]
        ys = [values(image, *r) for image, r in zip(turned, gallery.ranges.astype(float), strict=True)]
        for i, x in enumerate(xs):
            for j, y in enumerate(ys):
                if exclude_self and i == j:
                    continue
                s = score(x, y)
                if s > best[i, j] + TIE:
                    best[i, j], orientation[i, j] = s, g
    return best, orientation


def best_k(best, orientation, k):
    """Sorted lists with ties to the lower id."""
    ids = np.broadcast_to(np.arange(best.shape[1]), best.shape)
    order = np.lexsort((ids, -np.round(best, 9)), axis=1)[:, :k]
    score = np.take_along_axis(best, order, 1)
    return score, np.where(score > -np.inf, order, -1), np.take_along_axis(orientation, order, 1)


def assert_same(found, expected):
    score, ids, orientation = expected
    width = ids.shape[1]
    np.testing.assert_array_equal(found.id[:, :width], ids)
    assert (found.id[:, width:] == -1).all()
    real = ids >= 0
    np.testing.assert_allclose(found.score[:, :width][real], score[real], atol=SCORE_TOLERANCE)
    assert (found.score[found.id < 0] == -np.inf).all()
    np.testing.assert_array_equal(found.orientation[:, :width][real], orientation[real])


def check(query, gallery, *, k, symmetry="all", devices=1, descriptor=None, **keywords):
    descriptor = descriptor or Descriptor()
    group = orientations(query.images.shape[1:-1], symmetry)
    result = allpairs(query, gallery, k=k, group=group, mesh=audit_mesh(devices), descriptor=descriptor, **keywords)
    best, orientation = brute_force(query, gallery, group, descriptor, **keywords)
    assert_same(result.query_to_gallery, best_k(best, orientation, k))
    assert_same(result.gallery_to_query, best_k(best.T, orientation.T, k))
    finite = best[best > -np.inf]
    assert result.histogram.count.sum() == finite.size
    low, high = descriptor.limits
    inner = np.histogram(finite, np.linspace(low, high, len(result.histogram.count) + 1))[0]
    assert np.abs(inner - result.histogram.count).sum() <= 2 * (np.abs(np.diff(inner, prepend=0)) > 0).sum()
    return result


def random_images(rng, n, space, channels, dtype):
    if dtype == np.float32:
        return rng.normal(size=(n, *space, channels)).astype(np.float32)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (n, *space, channels), endpoint=True).astype(dtype)


SPACES = [(4, 4), (5, 3), (1, 6), (3, 3, 3), (4, 4, 2), (2, 3, 1)]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    space=st.sampled_from(SPACES),
    channels=st.integers(1, 3),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.float32]),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 40)),
    k=st.integers(1, 14),
    symmetry=st.sampled_from(["none", "flips", "all"]),
    devices=st.sampled_from([1, 2, 3, 8]),
    score=st.sampled_from(["correlation", "msd"]),
)
def test_equals_brute_force(seed, space, channels, dtype, sizes, k, symmetry, devices, score):
    """Random sets with what breaks ties and norms: repeated, turned and constant images, k larger than the set."""
    rng = np.random.default_rng(seed)
    query, gallery = (random_images(rng, n, space, channels, dtype) for n in sizes)
    group = orientations(space, symmetry)
    gallery[rng.integers(len(gallery))] = gallery[0]
    query[0] = group[rng.integers(len(group))].apply(gallery[-1])
    gallery[rng.integers(len(gallery))] = 7
    query[rng.integers(len(query))] = 0
    descriptor = Descriptor(score=score)
    check(image_set(query), image_set(gallery), k=k, symmetry=symmetry, devices=devices, descriptor=descriptor)


@pytest.mark.parametrize("copies", [3, 30])
def test_many_equal_images_go_to_the_lowest_ids(copies):
    """With more exact ties than spare candidates the list is certain only if it is computed again as a whole."""
    rng = np.random.default_rng(0)
    gallery = random_images(rng, 60, (6, 6), 1, np.uint8)
    query = random_images(rng, 3, (6, 6), 1, np.uint8)
    gallery[rng.choice(60, copies, replace=False)] = np.flipud(query[1])
    check(image_set(query), image_set(gallery), k=5)


def test_blocks_and_chunks_do_not_change_the_answer(monkeypatch):
    """Small budgets: several chunks of queries, many gallery blocks, the last of each filled up."""
    rng = np.random.default_rng(1)
    query, gallery = (image_set(random_images(rng, n, (5, 5), 2, np.uint8)) for n in (23, 61))
    whole = check(query, gallery, k=4, devices=1)
    monkeypatch.setattr(kernel, "_QUERY_BYTES", 7 * 4 * 50)
    monkeypatch.setattr(kernel, "_GALLERY_BYTES", 9 * 4 * 50)
    monkeypatch.setattr(kernel, "_GALLERY_ROWS", 1)
    for devices in (1, 3, 8):
        parts = check(query, gallery, k=4, devices=devices)
        np.testing.assert_array_equal(parts.histogram.count, whole.histogram.count)


def test_self_is_excluded_by_id():
    rng = np.random.default_rng(2)
    images = random_images(rng, 17, (4, 4), 1, np.uint8)
    images[11] = np.rot90(images[3])
    result = check(image_set(images), image_set(images), k=3, exclude_self=True)
    near = result.query_to_gallery
    assert near.id[3, 0] == 11
    assert near.id[11, 0] == 3
    assert not (near.id == np.arange(17)[:, None]).any()


@pytest.mark.parametrize("score", ["correlation", "msd"])
def test_channels_and_foreground(score):
    rng = np.random.default_rng(3)
    query, gallery = (image_set(random_images(rng, n, (6, 6), 3, np.uint8)) for n in (5, 9))
    mask = np.zeros((6, 6), bool)
    mask[1:5, 1:5] = True
    check(query, gallery, k=3, descriptor=Descriptor(score=score, channels=(2, 0), mask=mask))


def test_images_constant_on_the_foreground_have_no_neighbours():
    rng = np.random.default_rng(4)
    query, gallery = (random_images(rng, n, (6, 6), 1, np.uint8) for n in (4, 6))
    mask = np.zeros((6, 6), bool)
    mask[2:4, 2:4] = True
    query[1][mask] = 99
    gallery[2][mask] = 0
    result = check(image_set(query), image_set(gallery), k=6, descriptor=Descriptor(mask=mask))
    assert (result.query_to_gallery.id[1] == -1).all()


def test_large_offsets_keep_their_digits():
    """float32 images on top of an offset a million times their contrast (CT, absolute temperatures)."""
    rng = np.random.default_rng(5)
    offset = np.float32(2**20)
    query, gallery = ((offset + rng.integers(0, 8, (n, 8, 8, 1))).astype(np.float32) for n in (6, 20))
    check(image_set(query), image_set(gallery), k=5)


@pytest.mark.parametrize("size", [16, 4096, 65536])
def test_rounding_stays_far_below_the_slack(size):
    """The certificate of `refine` stands on this: the float32 error is well inside the slack it allows for."""
    rng = np.random.default_rng(6)
    base = rng.normal(size=(1, size, 1, 1))
    query, gallery = ((base + 0.3 * rng.normal(size=(n, size, 1, 1))).astype(np.float32) for n in (8, 40))
    group = orientations((size, 1), "none")
    near = allpairs(image_set(query), image_set(gallery), k=40, group=group, mesh=audit_mesh(1)).query_to_gallery
    x, y = (a.reshape(len(a), -1).astype(np.float64) for a in (query, gallery))
    exact = np.corrcoef(x, y)[:8, 8:]
    error = np.abs(near.score - np.take_along_axis(exact, near.id, 1)).max()
    assert error < rounding_slack(size) / 3


@pytest.mark.skipif("MEMJAX_REAL_DATA" not in os.environ, reason="real images are not at hand")
def test_real_radiographs_under_all_orientations():
    """Kermany 64x64: ids, orientations and scores of a float64 matrix product, on 1 and 8 devices."""
    path = Path(os.environ["MEMJAX_REAL_DATA"]) / "dev" / "cxr64_kermany_trainval.npz"
    with np.load(path, allow_pickle=False) as arrays:
        images = arrays["images"][..., None]
    rng = np.random.default_rng(7)
    gallery = images[:1200]
    query = images[rng.choice(len(images), 60, replace=False)]
    group = orientations((64, 64), "all")
    query[:20] = np.stack([group[i % 8].apply(gallery[50 * i]) for i in range(20)])

    def unit(x):
        x = x.reshape(len(x), -1).astype(np.float64)
        x -= x.mean(1, keepdims=True)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    scores = np.stack([unit(query) @ unit(turn.apply(gallery, leading=1)).T for turn in group])
    scores = np.round(scores, 9)
    best, orientation = scores.max(0), scores.argmax(0)
    for devices in (1, 8):
        result = allpairs(image_set(query), image_set(gallery), k=10, group=group, mesh=audit_mesh(devices))
        assert_same(result.query_to_gallery, best_k(best, orientation, 10))
        assert_same(result.gallery_to_query, best_k(best.T, orientation.T, 10))
