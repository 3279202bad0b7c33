"""The kernel against a float64 brute force that knows nothing of blocks, devices or candidates."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from memjax.audit.allpairs import allpairs
from memjax.audit.describe import ArrayImages, Descriptor
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


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    space=st.sampled_from([(4, 4), (5, 3), (1, 6), (3, 3, 3), (4, 4, 2), (2, 3, 1)]),
    channels=st.integers(1, 3),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.float32]),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 12)),
    k=st.integers(1, 14),
    symmetry=st.sampled_from(["none", "flips", "all"]),
    devices=st.sampled_from([1, 2, 3, 8]),
    score=st.sampled_from(["correlation", "msd"]),
    twins=st.booleans(),
)
def test_equals_brute_force(seed, space, channels, dtype, sizes, k, symmetry, devices, score, twins):
    rng = np.random.default_rng(seed)
    query, gallery = (random_images(rng, n, space, channels, dtype) for n in sizes)
    if twins:  # exact ties: repeated, turned and constant images
        gallery[rng.integers(len(gallery))] = gallery[0]
        group = orientations(space, symmetry)
        query[0] = group[rng.integers(len(group))].apply(gallery[-1])
        gallery[rng.integers(len(gallery))] = 7
        query[rng.integers(len(query))] = 0
    descriptor = Descriptor(score=score)
    check(image_set(query), image_set(gallery), k=k, symmetry=symmetry, devices=devices, descriptor=descriptor)
