"""Rank tests against scipy, published tables and worked examples; the bootstrap against formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from carrick.errors import CarrickError
from carrick.evaluate.statistics import (
    bootstrap_interval,
    critical_difference,
    friedman,
    holm,
    nemenyi,
    paired_bootstrap,
    wilcoxon_holm,
)

stats = pytest.importorskip("scipy.stats")

# Demšar (2006), Table 6: AUC of C4.5 with four settings on 14 data sets, and what section 3.2.2 and 3.2.4
# work out from it by hand.
DEMSAR = np.array(
    [
        [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
        [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
        [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946],
        [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
    ]
)


def test_friedman_worked_example():
    found = friedman(DEMSAR, level=0.10)
    assert found.mean_ranks == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=1e-3)
    # The paper leaves the tie correction out: 12·14/(4·5)·(Σ R² - 4·5²/4) = 9.28, F = 3.69.
    uncorrected = 12 * 14 / 20 * (sum(rank**2 for rank in found.mean_ranks) - 25)
    assert uncorrected == pytest.approx(9.28, abs=0.01)
    assert 13 * uncorrected / (14 * 3 - uncorrected) == pytest.approx(3.69, abs=0.01)
    assert found.critical_difference == pytest.approx(1.12, abs=0.01)
    # Corrected: divided by 1 - Σ (t³ - t) / (n k (k² - 1)), t the sizes of the groups of equal scores.
    ties = sum(
        count**3 - count for block in DEMSAR.T for count in np.unique(block, return_counts=True)[1].tolist()
    )
    assert found.statistic == pytest.approx(uncorrected / (1 - ties / (14 * 4 * 15)))
    assert found.p == pytest.approx(stats.chi2.sf(found.statistic, 3))
    assert found.p_f == pytest.approx(stats.f.sf(found.f, 3, 39))


@pytest.mark.parametrize("seed", range(4))
def test_friedman_against_scipy(seed):
    table = np.random.default_rng(seed).normal(size=(6, 12)) + np.arange(6)[:, None] * 0.3
    found = friedman(table)
    expected = stats.friedmanchisquare(*table)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.blocks == 12
    assert sum(found.mean_ranks) == pytest.approx(6 * 7 / 2)
    assert found.mean_ranks[5] < found.mean_ranks[0]
    turned = friedman(-table, higher_is_better=False)
    assert turned.mean_ranks == found.mean_ranks


def test_no_difference_at_all():
    found = friedman(np.ones((4, 5)))
    assert (found.statistic, found.p, found.mean_ranks) == (0.0, 1.0, (2.5, 2.5, 2.5, 2.5))
    assert np.all(nemenyi(np.ones((4, 5))) == 1.0)
    assert [each.p for each in wilcoxon_holm(np.ones((3, 5)))] == [1.0, 1.0, 1.0]


def test_agreement_of_all_blocks_makes_f_infinite():
    found = friedman(np.tile(np.arange(3.0)[:, None], 6))
    assert (found.f, found.p_f) == (math.inf, 0.0)


# Demšar (2006), Table 5(a): two-tailed Nemenyi, 2 to 10 classifiers.
Q_05 = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
Q_10 = [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]


@pytest.mark.parametrize(("level", "column"), [(0.05, Q_05), (0.10, Q_10)])
def test_nemenyi_against_the_published_values(level, column):
    for k, published in enumerate(column, start=2):
        found = critical_difference(k, 10, level) / math.sqrt(k * (k + 1) / 60)
        assert found == pytest.approx(published, abs=1.1e-3)


def test_nemenyi_p_values_agree_with_the_critical_difference():
    table = np.random.default_rng(1).normal(size=(5, 9)) + np.arange(5)[:, None] * 0.7
    p, found = nemenyi(table), friedman(table)
    ranks = np.array(found.mean_ranks)
    apart = np.abs(ranks[:, None] - ranks[None, :])
    assert np.array_equal(p < 0.05, apart > found.critical_difference)
    assert (p < 0.05).any()
    assert np.array_equal(p, p.T)
    assert np.all(np.diag(p) == 1.0)


def test_wilcoxon_and_holm():
    table = np.random.default_rng(2).normal(size=(3, 10)) + np.arange(3)[:, None]
    found = wilcoxon_holm(table)
    assert [(each.first, each.second) for each in found] == [(0, 1), (0, 2), (1, 2)]
    raw = [stats.wilcoxon(table[i], table[j]).pvalue for i, j in [(0, 1), (0, 2), (1, 2)]]
    assert [each.p for each in found] == pytest.approx(raw)
    assert [each.adjusted for each in found] == holm(raw)
    # Six blocks that all agree: 2 / 2⁶ by counting the sign patterns.
    assert wilcoxon_holm([[1, 2, 3, 4, 5, 6.5], [0, 0, 0, 0, 0, 0]])[0].p == pytest.approx(2 / 64)


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, never falling: .02 .03 .06 .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_bootstrap_of_a_mean_is_the_formula():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = bootstrap_interval(np.mean, values, seed=1, draws=4000)
    error = values.std() / math.sqrt(400)
    assert found.standard_error == pytest.approx(error, rel=0.05)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert found == bootstrap_interval(np.mean, values, seed=1, draws=4000)
    assert found != bootstrap_interval(np.mean, values, seed=2, draws=4000)


def test_bootstrap_draws_rows_together():
    labels = np.arange(50)
    found = bootstrap_interval(lambda a, b: float((a == b).mean()), labels, labels, seed=0, draws=50)
    assert found == (1.0, 1.0, 0.0)


def test_bootstrap_covers_as_often_as_it_says():
    covered = 0
    for trial in range(200):
        values = np.random.default_rng(trial).normal(size=60)
        low, high, _ = bootstrap_interval(np.mean, values, seed=trial, draws=300)
        covered += low <= 0 <= high
    assert 176 <= covered <= 199  # 95 % of 200 is 190; ± 4.5 standard deviations


def _accuracy(labels, answers):
    return float((labels == answers).mean())


def test_paired_bootstrap():
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 600)
    weak = np.where(random.random(600) < 0.6, labels, (labels + 1) % 3)
    strong = np.where(random.random(600) < 0.75, labels, (labels + 1) % 3)
    found = paired_bootstrap(_accuracy, weak, strong, labels, seed=0)
    gain = (strong == labels).astype(float) - (weak == labels)
    assert found.difference == pytest.approx(gain.mean())
    assert found.standard_error == pytest.approx(gain.std() / math.sqrt(600), rel=0.1)
    assert found.low < found.difference < found.high
    assert found.p == 2 / 1001
    back = paired_bootstrap(_accuracy, strong, weak, labels, seed=0)
    assert back.difference == -found.difference
    assert back.p == found.p
    same = paired_bootstrap(_accuracy, weak, weak, labels, seed=0)
    assert (same.difference, same.p) == (0.0, 1.0)


def test_paired_bootstrap_of_scores_without_a_reference():
    first, second = np.zeros(20), np.ones(20)
    assert paired_bootstrap(np.mean, first, second, seed=0).difference == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: friedman([[1, 2], [3, 4]]),
        lambda: friedman([[1], [3], [2]]),
        lambda: friedman([[1, 2], [3, 4], [5, math.nan]]),
        lambda: bootstrap_interval(np.mean, [], seed=0),
        lambda: bootstrap_interval(_accuracy, [1, 2], [1], seed=0),
    ],
)
def test_refused(call):
    with pytest.raises(CarrickError):
        call()
