"""The Pareto front that searches, comparisons and their plots share."""

import numpy as np

from wavemix_tf.pareto import pareto_front


def cost_of(item):
    return item[0]


def gain_of(item):
    return item[1]


def test_the_front_is_what_no_other_item_beats():
    rng = np.random.default_rng(0)
    for _ in range(50):
        items = [tuple(map(int, pair)) for pair in rng.integers(0, 8, (12, 2))]

        def beaten(item, items=items):
            return any(
                other != item and cost_of(other) <= cost_of(item) and gain_of(other) >= gain_of(item) for other in items
            )

        expected = sorted({item for item in items if not beaten(item)})
        assert pareto_front(items, cost_of, gain_of) == expected


def test_of_equals_the_first_and_never_what_is_no_number():
    items = [(1, 0.5, "a"), (1, 0.5, "b"), (2, float("nan"), "c"), (0, float("-inf"), "d"), (3, 0.6, "e")]
    assert [item[2] for item in pareto_front(items, cost_of, gain_of)] == ["a", "e"]
    assert pareto_front([], cost_of, gain_of) == []
