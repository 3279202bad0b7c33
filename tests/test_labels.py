"""Labels of synthetic images: the training set's proportions, and each its seed's alone."""

import numpy as np

from memjax.data.labels import labels_of


def test_shares_are_those_of_the_training_set():
    found = labels_of(range(4000), (0.2, 0.5, 0.3))
    assert found.dtype == np.int32
    shares = np.bincount(found, minlength=3) / len(found)
    np.testing.assert_allclose(shares, (0.2, 0.5, 0.3), atol=4 * np.sqrt(0.25 / 4000))


def test_a_label_follows_from_its_seed_id_alone():
    whole = labels_of(range(100), (0.5, 0.5))
    np.testing.assert_array_equal(labels_of(np.array([70, 3]), (0.5, 0.5)), whole[[70, 3]])


def test_without_classes_there_are_no_labels():
    assert labels_of(range(3), ()) is None
