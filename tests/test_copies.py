import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memjax.data.copies import COPY_KINDS, make_copy, plant_duplicates, stand_in_generator
from memjax.data.phantoms import draw
from memjax.digest import array_digest
from memjax.errors import UserError
from memjax.orientation import orientations

QUARTER_TURNS_2D = {"rot90", "rot270"}
LABELS = {0, 51, 102, 204}


@pytest.fixture(scope="module")
def chests():
    return draw("chest", range(40), size=(48, 48)).images


@pytest.fixture(scope="module")
def heads():
    return draw("brain", range(2), size=(32, 32, 24)).images


def correlation(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


@pytest.mark.parametrize("kind", ["flipped", "rotated"])
@pytest.mark.parametrize("shape", [(6, 6, 2), (5, 7, 1), (6, 6, 4, 1), (3, 4, 5, 2), (4, 4, 4, 1)])
def test_orientation_turns_the_training_image_into_the_copy(kind, shape):
    rng = np.random.default_rng(0)
    for _ in range(8):
        image = rng.integers(0, 256, shape, np.uint8)
        copy, orientation = make_copy(image, kind, rng=rng)
        np.testing.assert_array_equal(orientation.apply(image), copy)
        assert copy.shape == image.shape
        assert orientation.name != "identity"
        assert orientation in orientations(shape[:-1], "all")


def test_flips_reverse_axes_only_and_all_of_them_occur():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 5, 1), np.uint8)
    names = {make_copy(image, "flipped", rng=rng)[1].name for _ in range(60)}
    assert names == {"flipud", "fliplr", "rot180"}


def test_rotations_are_quarter_turns_as_numpy_turns():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 5, 3), np.uint8)
    turned = {"rot90": np.rot90(image), "rot270": np.rot90(image, 3)}
    seen = set()
    for _ in range(30):
        copy, orientation = make_copy(image, "rotated", rng=rng)
        np.testing.assert_array_equal(copy, turned[orientation.name])
        seen.add(orientation.name)
    assert seen == QUARTER_TURNS_2D


def test_a_volume_turns_in_the_plane_of_its_equal_axes_only():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 4, 6, 1), np.uint8)
    turns = [np.rot90(image, times, (0, 2)) for times in (1, 3)]
    for _ in range(10):
        copy, orientation = make_copy(image, "rotated", rng=rng)
        assert orientation.axes == (2, 1, 0)
        assert any(np.array_equal(copy, turn) for turn in turns)


def test_an_image_without_equal_axes_is_turned_by_half():
    image = np.arange(35, dtype=np.uint8).reshape(5, 7, 1)
    copy, orientation = make_copy(image, "rotated", rng=np.random.default_rng(0))
    assert orientation.name == "rot180"
    np.testing.assert_array_equal(copy, image[::-1, ::-1])


@pytest.mark.parametrize("kind", ["noised", "contrast", "deformed"])
def test_altered_copies_are_closer_than_any_stranger(chests, kind):
    stranger = max(correlation(first, second) for i, first in enumerate(chests) for second in chests[:i])
    for number, image in enumerate(chests[:12]):
        copy, orientation = make_copy(image, kind, rng=np.random.default_rng(number))
        assert orientation.name == "identity"
        assert copy.dtype == np.uint8
        assert not np.array_equal(copy, image)
        assert stranger + 0.005 < correlation(copy, image) < 1


def test_noise_has_the_promised_strength():
    image = np.full((200, 200, 2), 100, np.uint8)
    image[0, 0], image[0, 1] = (0, 50), (255, 150)  # ranges 255 and 100
    for number in range(5):
        copy, _ = make_copy(image, "noised", rng=np.random.default_rng(number))
        spread = (copy.astype(float) - image)[1:].std((0, 1)) / (255, 100)
        assert ((spread > 0.0195) & (spread < 0.0305)).all()


def test_contrast_keeps_the_order_of_grey_values():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    for number in range(10):
        copy, _ = make_copy(image, "contrast", rng=np.random.default_rng(number))
        steps = np.diff(copy.ravel().astype(int))
        assert (steps >= 0).all()
        assert np.abs(copy.astype(int) - image).max() <= 0.25 * 255


def test_deformation_moves_by_one_to_one_and_a_half_percent():
    n = 200
    ramps = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1).astype(np.uint8)
    for number in range(5):
        copy, _ = make_copy(ramps, "deformed", rng=np.random.default_rng(number))
        moved = np.linalg.norm(copy.astype(float) - ramps, axis=-1).max() / n
        assert 0.01 - 0.004 < moved < 0.015 + 0.004  # grey values are rounded to half a pixel on each axis


@pytest.mark.parametrize("kind", COPY_KINDS)
def test_label_channels_keep_valid_labels(heads, kind):
    image = heads[0]
    assert len(np.unique(image[..., 4])) > 1
    copy, _ = make_copy(image, kind, rng=np.random.default_rng(1), label_channels=(4,))
    assert set(np.unique(copy[..., 4]).tolist()) <= set(np.unique(image[..., 4]).tolist()) <= LABELS
    if kind in ("noised", "contrast"):
        np.testing.assert_array_equal(copy[..., 4], image[..., 4])
        assert not np.array_equal(copy[..., 0], image[..., 0])


def test_deformation_moves_the_labels_with_the_picture():
    image = np.zeros((100, 100, 2), np.uint8)
    image[30:70, 20:80] = 204
    copy, _ = make_copy(image, "deformed", rng=np.random.default_rng(0), label_channels=(1,))
    assert not np.array_equal(copy[..., 1], image[..., 1])
    differs = (copy[..., 0] >= 102) != (copy[..., 1] == 204)
    assert differs.mean() < 0.005


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["exact", "noised", "contrast", "deformed"]),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    value=st.integers(0, 255),
)
def test_constant_images_of_any_shape_stay_themselves(kind, shape, value):
    image = np.full(shape, value, np.uint8)
    copy, _ = make_copy(image, kind, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(copy, image)


def test_mistakes_are_named(chests):
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="'mirrored'"):
        make_copy(chests[0], "mirrored", rng=rng)
    with pytest.raises(UserError, match="float32"):
        make_copy(chests[0].astype(np.float32), "exact", rng=rng)
    with pytest.raises(UserError, match="cannot be rotated"):
        make_copy(chests[0][:1], "rotated", rng=rng)
    with pytest.raises(UserError, match="same size"):
        stand_in_generator(chests, chests[:, :40], copies_per_kind=1, seed=0)
    with pytest.raises(UserError, match="no training images"):
        stand_in_generator(chests[:0], chests, copies_per_kind=1, seed=0)


def test_stand_in_generator_knows_what_it_made(chests):
    train, novel = chests[:30], chests[30:]
    planted = stand_in_generator(train, novel, copies_per_kind=3, seed=7)
    assert planted.images.shape == (6 * 3 + len(novel), *train.shape[1:])
    assert {kind: planted.kind.count(kind) for kind in COPY_KINDS} == dict.fromkeys(COPY_KINDS, 3)
    is_copy = np.array([kind != "" for kind in planted.kind])
    np.testing.assert_array_equal(planted.train_id == -1, ~is_copy)
    assert len(set(planted.train_id[is_copy].tolist())) == 18  # each training image at most once
    assert {array_digest(image) for image in planted.images[~is_copy]} == {array_digest(image) for image in novel}
    named = {turn.name: turn for turn in orientations(train.shape[1:3], "all")}
    for image, kind, train_id, name in zip(
        planted.images, planted.kind, planted.train_id, planted.orientation, strict=True
    ):
        if not kind:
            assert name == ""
        elif kind in ("exact", "flipped", "rotated"):
            np.testing.assert_array_equal(named[name].apply(train[train_id]), image)
        else:
            assert name == "identity"
            assert correlation(train[train_id], image) > 0.97
    assert is_copy[: len(is_copy) // 2].any() and not is_copy[: is_copy.sum()].all()  # shuffled


def test_stand_in_generator_is_a_function_of_its_seed(chests):
    first, again, other = (
        stand_in_generator(chests[:30], chests[30:], copies_per_kind=2, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.kind, first.orientation) == (again.kind, again.orientation)
    assert not np.array_equal(first.images, other.images)


def test_stand_in_generator_with_few_or_no_copies(chests):
    many = stand_in_generator(chests[:2], chests[30:], copies_per_kind=2, seed=0)
    assert sorted(many.train_id[many.train_id >= 0].tolist()) == [0] * 6 + [1] * 6
    none = stand_in_generator(chests[:0], chests[30:], copies_per_kind=0, seed=0)
    assert set(none.kind) == {""} and len(none.images) == 10


def test_planted_duplicates_are_exactly_the_groups_of_equal_images(chests):
    for seed in range(5):
        images, groups = plant_duplicates(chests, count=6, rng=np.random.default_rng(seed))
        by_content = {}
        for place, image in enumerate(images):
            by_content.setdefault(array_digest(image), []).append(place)
        found = sorted(tuple(places) for places in by_content.values() if len(places) > 1)
        assert list(groups) == found
        assert len(groups) == 6
        assert len(by_content) == len(chests)


def test_duplicates_keep_the_order_of_the_rest(chests):
    images, groups = plant_duplicates(chests, count=3, rng=np.random.default_rng(0))
    repeated = {place for group in groups for place in group}
    rest = [array_digest(image) for place, image in enumerate(images) if place not in repeated]
    order = [array_digest(image) for image in chests]
    assert rest == [digest for digest in order if digest in set(rest)]


def test_duplicates_want_a_set_without_any(chests):
    with pytest.raises(UserError, match="duplicates already"):
        plant_duplicates(chests[[0, 0, 1]], count=1, rng=np.random.default_rng(0))
    with pytest.raises(UserError, match="41 of 40"):
        plant_duplicates(chests, count=41, rng=np.random.default_rng(0))
