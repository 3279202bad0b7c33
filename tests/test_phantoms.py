import numpy as np
import pytest
from scipy import ndimage

from memjax.data.phantoms import KINDS, draw
from memjax.data.phantoms.geometry import ellipsoid, grid, soft, tube
from memjax.data.phantoms.noise import smooth_noise
from memjax.data.phantoms.scanner import reposition
from memjax.errors import UserError

SMALL = {
    "brain": (32, 32, 24),
    "brain_slices": (32, 32, 24),
    "chest": (32, 32),
    "vessel": (24, 24, 24),
    "knee": (40, 40, 16),
}


def unit(images):
    rows = images.reshape(len(images), -1).astype(np.float64)
    rows -= rows.mean(1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_the_same_alone_and_in_any_company(kind):
    size = SMALL[kind]
    crowd = draw(kind, [5, 2, 9], seed=3, size=size, per_patient=2)
    alone = draw(kind, [2], seed=3, size=size, per_patient=1)
    mine = [i for i, patient in enumerate(crowd.patient) if patient == alone.patient[0]]
    np.testing.assert_array_equal(crowd.images[mine[: len(alone.images)]], alone.images)
    assert crowd.slice[mine[0]] == alone.slice[0]
    assert not np.array_equal(draw(kind, [2], seed=4, size=size).images[:1], alone.images[:1])


@pytest.mark.parametrize("kind", ["brain", "chest", "vessel", "knee"])
def test_patients_differ_and_visits_of_one_are_alike(kind):
    phantoms = draw(kind, range(5), size=SMALL[kind], per_patient=2)
    images = phantoms.images[..., :4]
    rows = unit(images)
    alike = rows @ rows.T
    same = np.array([[a == b for b in phantoms.patient] for a in phantoms.patient])
    visits = alike[same & ~np.eye(len(rows), dtype=bool)]
    strangers = alike[~same]
    assert visits.max() < 0.9999
    assert visits.mean() > strangers.mean() + 0.03
    best = np.where(np.eye(len(rows), dtype=bool), -1, alike).argmax(1)
    assert np.mean([phantoms.patient[i] == phantoms.patient[j] for i, j in enumerate(best)]) >= 0.9


def test_unrelated_radiographs_are_alike_as_real_ones_are():
    rows = unit(draw("chest", range(150), size=(64, 64)).images)
    alike = rows @ rows.T
    np.fill_diagonal(alike, -1)
    nearest = alike.max(1)
    assert 0.85 < np.median(nearest) < 0.97
    assert nearest.max() < 0.98


@pytest.mark.parametrize(
    ("kind", "size", "axes", "channels"),
    [
        ("brain", (48, 48, 48), ("R", "A", "S"), 5),
        ("brain", (33, 27, 21), ("R", "A", "S"), 5),
        ("brain_slices", (40, 36), ("R", "A"), 5),
        ("chest", (32, 32), ("row", "column"), 1),
        ("chest", (45, 61), ("row", "column"), 1),
        ("vessel", (31, 32, 17), ("R", "A", "S"), 1),
        ("knee", (48, 40, 9), ("R", "A", "S"), 1),
    ],
)
def test_any_size(kind, size, axes, channels):
    phantoms = draw(kind, [0], size=size)
    space = phantoms.images.shape[1:-1]
    assert space == size[: len(axes)]
    assert phantoms.images.dtype == np.uint8
    assert phantoms.axes == axes
    assert len(phantoms.channels) == phantoms.images.shape[-1] == channels
    assert len(phantoms.patient) == len(phantoms.slice) == len(phantoms.images)
    assert len(phantoms.spacing_mm) == len(axes)
    assert all(image[..., :4].std() > 10 for image in phantoms.images)


def test_the_usual_sizes():
    assert draw("chest", [0]).images.shape == (1, 256, 256, 1)
    assert draw("vessel", [0]).images.shape == (1, 64, 64, 64, 1)


@pytest.mark.parametrize("kind", ["chest", "vessel", "knee", "brain"])
def test_a_patient_is_the_same_person_at_every_size(kind):
    size = SMALL[kind]
    fine = draw(kind, range(3), size=tuple(2 * n for n in size))
    coarse = draw(kind, range(3), size=size)
    halved = ndimage.zoom(
        fine.images.astype(float), (1, *(0.5,) * len(size), 1), order=1, grid_mode=True, mode="nearest"
    )
    alike = unit(halved[..., :4]) @ unit(coarse.images[..., :4]).T
    assert (alike.argmax(1) == np.arange(3)).all()
    assert np.diag(alike).min() > 0.9


def test_brain_has_the_papers_channels_labels_and_empty_air():
    phantoms = draw("brain", range(6), size=(48, 48, 32))
    assert phantoms.channels == ("t1ce", "t1", "flair", "t2", "seg")
    assert phantoms.label_channels == (4,)
    assert set(np.unique(phantoms.images[..., 4]).tolist()) == {0, 51, 102, 204}
    assert all((image[..., 4] > 0).sum() > 20 for image in phantoms.images)
    assert (phantoms.images[:, 0, 0] == 0).all()
    for image in phantoms.images:
        air = ~ndimage.binary_fill_holes((image[..., :4] > 0).any(-1).any(2))
        assert air.mean() > 0.3
    t1ce, t1 = (phantoms.images[..., channel].astype(float) for channel in (0, 1))
    enhancing = phantoms.images[..., 4] == 204
    oedema = phantoms.images[..., 4] == 102
    assert (t1ce - t1)[enhancing].mean() > 60  # the rim takes up contrast agent
    flair = phantoms.images[..., 2]
    assert flair[oedema].mean() > 1.4 * np.median(flair[flair > 30])


def test_brain_is_drawn_in_ras():
    images = draw("brain", range(4), size=(48, 48, 32)).images
    tissue = images[..., 1].astype(float).mean(0)
    # The cranium closes at the top; the neck goes on below.
    assert (tissue[:, :, -1] > 20).sum() < (tissue[:, :, 0] > 20).sum()
    # The cerebellum and brainstem (not the air of the nose) lie behind.
    low = tissue[:, :, 8]
    assert low[:, :24].mean() > low[:, 24:].mean()


def test_neighbouring_brain_slices_are_alike():
    slices = draw("brain_slices", range(3), size=(48, 48, 64))
    rows = unit(slices.images[..., :4])
    patients, heights = np.array(slices.patient), np.array(slices.slice)
    alike = rows @ rows.T
    np.fill_diagonal(alike, -1)
    next_to = (patients[:, None] == patients) & (np.abs(heights[:, None] - heights) == 1)
    strangers = patients[:, None] != patients
    assert np.median(alike[next_to]) > 0.95
    assert alike[next_to].mean() > alike[strangers].mean() + 0.2
    assert next_to[np.arange(len(rows)), alike.argmax(1)].mean() > 0.8


def test_brain_slices_are_the_volumes_own_with_the_papers_rule():
    size = (40, 40, 24)
    volumes = draw("brain", [3, 1], size=size, per_patient=2)
    slices = draw("brain_slices", [3, 1], size=size, per_patient=2)
    kept = [
        (volumes.patient[i], z, volume[:, :, z])
        for i, volume in enumerate(volumes.images)
        for z in range(size[2])
        if (volume[:, :, z, 1] > 50).mean() > 0.15
    ]
    assert 0.3 < len(kept) / (4 * size[2]) < 0.9
    assert slices.patient == tuple(patient for patient, _, _ in kept)
    assert slices.slice == tuple(z for _, z, _ in kept)
    np.testing.assert_array_equal(slices.images, np.stack([image for _, _, image in kept]))
    assert slices.spacing_mm == volumes.spacing_mm[:2]


def test_radiographs_show_lungs_spine_and_the_heart_on_the_left():
    mean = draw("chest", range(60), size=(64, 64)).images[..., 0].astype(float).mean(0)
    right_lung, left_lung = mean[24:34, 14:22].mean(), mean[24:34, 42:50].mean()
    assert mean[24:34, 31:33].mean() > 1.4 * max(right_lung, left_lung)
    assert mean[54:62, 20:44].mean() > 1.3 * right_lung  # abdomen
    assert mean[36:42, 39:43].mean() > mean[36:42, 21:25].mean() + 10  # heart: patient's left, right in the picture


def test_vessels_are_bright_at_the_centre_and_some_calcified():
    images = draw("vessel", range(12), size=(32, 32, 32)).images[..., 0].astype(float)
    centre = images[:, 12:20, 12:20, 12:20]
    assert (centre.max((1, 2, 3)) > np.median(images, (1, 2, 3)) + 50).all()
    brightest = images.max((1, 2, 3))
    assert brightest.max() > 220 and brightest.min() < 190


def test_knees_come_left_and_right_with_bones_in_place():
    images = draw("knee", range(12), size=(48, 48, 24)).images[..., 0].astype(float)
    lean = [image[:24, :, :6].mean() - image[24:, :, :6].mean() for image in images]
    assert min(lean) < 0 < max(lean)
    mean = images.mean(0)
    assert (images[:, 0, 0] == 0).all()
    marrow = mean[22:26, 24:28, -4:].mean()
    muscle = mean[18:22, 10:13, 2:8].mean()  # behind, in the calf
    assert marrow > 1.3 * muscle


def test_mistakes_are_named():
    with pytest.raises(UserError, match="'liver'"):
        draw("liver", [0])
    with pytest.raises(UserError, match=r"\(32, 32, 32\)"):
        draw("chest", [0], size=(32, 32, 32))
    with pytest.raises(UserError, match="at least 8"):
        draw("vessel", [0], size=(64, 64, 4))
    with pytest.raises(UserError, match="per_patient"):
        draw("chest", [-1])


def test_no_patients_give_an_empty_set():
    phantoms = draw("chest", [], size=(16, 16))
    assert phantoms.images.shape == (0, 16, 16, 1)
    assert draw("brain_slices", [], size=(16, 16)).images.shape == (0, 16, 16, 5)


def test_smooth_noise_is_one_function_of_place_with_unit_variance():
    fine, coarse = (smooth_noise(np.random.default_rng(1), (n, 3 * n), 6) for n in (90, 30))
    np.testing.assert_allclose(fine[1::3, 1::3], coarse, atol=1e-4)  # every third centre is a centre of the coarse grid
    powers = [smooth_noise(np.random.default_rng(seed), (40, 40), 8).var() for seed in range(20)]
    assert 0.75 < np.mean(powers) < 1.25


def test_distances_are_true_on_spheres_and_tubes():
    points = grid((21, 22, 25), (21.0, 22.0, 25.0))
    points[1] = points[1] + 0.5  # so that one voxel is the very centre
    radius = np.sqrt(sum(p * p for p in points))
    np.testing.assert_allclose(ellipsoid(points, (0, 0, 0), (6, 6, 6)), radius - 6, atol=1e-4)
    np.testing.assert_allclose(tube(points, (0, 0, 0), (0, 0, 1e-3), 4.0), radius - 4, atol=2e-3)
    assert soft(np.float32([-9.0, 0.0, 9.0]), 1.0).tolist() == [1.0, 0.5, 0.0]


def test_reposition_moves_by_millimetres_and_turns_about_the_centre():
    image = np.zeros((21, 21, 11), np.float32)
    image[10, 14, 5] = 1
    shifted = reposition(image, (2.0, 1.0, 3.0), (0, 0, 0), (4.0, -3.0, 3.0))
    assert np.unravel_index(shifted.argmax(), shifted.shape) == (12, 11, 6)
    turned = reposition(image, (1.0, 1.0, 1.0), (0, 0, 90), (0, 0, 0))
    assert np.unravel_index(turned.argmax(), turned.shape) == (6, 10, 5)
