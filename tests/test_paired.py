"""Two classifiers on the same images: the interval and the test against published and other figures."""

import numpy as np
import pytest
from scipy.stats import binomtest

from wavemix_tf.command.paired import Paired, changes, failures, paired

NAMES = ("red", "green", "blue")

# Newcombe, Statistics in Medicine 17 (1998) 2635-2650, table III, method 10.
TABLE_III = [
    ((36, 12, 2, 0), (0.0569, 0.3404)),
    ((20, 12, 2, 16), (0.0562, 0.3292)),
    ((18, 12, 2, 18), (0.0562, 0.3290)),
    ((36, 14, 0, 0), (0.1528, 0.4167)),
    ((35, 14, 0, 1), (0.1461, 0.4175)),
    ((18, 14, 0, 18), (0.1441, 0.3963)),
    ((2, 97, 1, 0), (0.8721, 0.9854)),
    ((0, 29, 1, 0), (0.6666, 0.9882)),
    ((2, 98, 0, 0), (0.9178, 0.9945)),
    ((1, 98, 0, 1), (0.9171, 0.9916)),
    ((0, 30, 0, 0), (0.8395, 1.0)),
    ((54, 0, 0, 0), (-0.0664, 0.0664)),
    ((53, 0, 0, 1), (-0.0729, 0.0729)),
    ((30, 0, 0, 24), (-0.0358, 0.0358)),
    ((27, 0, 0, 27), (-0.0351, 0.0351)),
]


@pytest.mark.parametrize(("cells", "limits"), TABLE_III)
def test_the_paired_interval_is_the_published_one(cells, limits):
    np.testing.assert_allclose(Paired(*cells).interval, limits, atol=5.1e-5)
    a, b, c, d = cells
    np.testing.assert_allclose(Paired(a, c, b, d).interval, [-limits[1], -limits[0]], atol=5.1e-5)


@pytest.mark.parametrize(("gained", "lost"), [(12, 2), (2, 12), (0, 0), (1, 0), (5, 5), (40, 41), (700, 800)])
def test_mcnemar_is_the_binomial_test(gained, lost):
    found = Paired(100, gained, lost, 100).p_value
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found == pytest.approx(expected, rel=1e-9)


def test_mcnemar_as_published():
    """Armitage & Berry (1994, p. 127), two media for tuberculosis: 20, 12, 2, 16; exact two-sided P 0.0129."""
    assert round(Paired(20, 12, 2, 16).p_value, 4) == 0.0129


def test_counts_and_changes_of_answers():
    labels = np.array([0, 0, 1, 1, 2, 2])
    new, shipped = np.eye(3)[[0, 1, 1, 2, 0, 2]], np.eye(3)[[0, 0, 0, 0, 1, 2]]
    counts = paired(labels, new.argmax(-1), shipped.argmax(-1))
    assert (counts.both_right, counts.gained, counts.lost, counts.both_wrong) == (2, 1, 1, 2)
    found = changes(list("abcdef"), labels, 9 * new, 9 * shipped, NAMES)
    assert [(row.cells[0], row.kind) for row in found] == [
        ("b", "right->wrong"),
        ("c", "wrong->right"),
        ("d", "wrong->wrong"),
        ("e", "wrong->wrong"),
    ]


def test_what_the_gate_lets_pass():
    np.testing.assert_allclose(Paired(90, 0, 3, 7).interval, (-0.083, 0.0145), atol=5e-4)  # the example in the docs
    better, equal, worse = Paired(80, 9, 3, 8), Paired(85, 4, 6, 5), Paired(70, 2, 20, 8)
    assert failures(better, 12, None, None) == failures(equal, 10, None, None) == []
    assert worse.interval[1] < 0
    assert "significantly lower" in failures(worse, 22, None, None)[0]
    # The limit replaces the test of significance; it is met when it is reached.
    assert failures(worse, 22, 18, None) == []
    assert "fell by 18.00 percentage points" in failures(worse, 22, 17.9, None)[0]
    assert "fell by 2.00" in failures(equal, 10, 1, None)[0]
    assert failures(equal, 10, 2, 0.1) == []
    assert "10 of 100 images (10.00%) changed class" in failures(equal, 10, None, 0.09)[0]
    assert len(failures(worse, 22, 1, 0.01)) == 2
