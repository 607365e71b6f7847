"""Whether differences are more than chance: rank tests over blocks, bootstrap over rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from carrick.errors import CarrickError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Friedman:
    """Result of a Friedman test over k treatments and n blocks.

    Attributes
    ----------
    statistic, p
        χ² with k - 1 degrees of freedom, corrected for ties, and the probability of one as large.
    f, p_f
        Iman and Davenport's F = (n - 1) χ² / (n (k - 1) - χ²), which is less conservative for few blocks, and
        its probability; F is infinite when all blocks rank the treatments alike.
    mean_ranks
        Mean rank of each treatment, 1 the best; ties share the mean of their ranks.
    blocks
        n.
    critical_difference
        Nemenyi: mean ranks further apart than this differ at `level`.
    level
        Significance level of `critical_difference`.
    """

    statistic: float
    p: float
    f: float
    p_f: float
    mean_ranks: tuple[float, ...]
    blocks: int
    critical_difference: float
    level: float


class Interval(NamedTuple):
    """A bootstrap interval and the standard deviation over the draws."""

    low: float
    high: float
    standard_error: float


class PairedBootstrap(NamedTuple):
    """How much better the second system is than the first, with interval and two-sided p value."""

    difference: float
    low: float
    high: float
    standard_error: float
    p: float


class Comparison(NamedTuple):
    """Wilcoxon's signed-rank test of one pair of treatments; `p` is uncorrected, `adjusted` is after Holm."""

    first: int
    second: int
    p: float
    adjusted: float


def friedman(table: ArrayLike, *, higher_is_better: bool = True, level: float = 0.05) -> Friedman:
    """Test whether treatments differ, by their ranks within each block.

    Parameters
    ----------
    table
        Scores, shape (treatments, blocks); at least three treatments and two blocks (languages, say, or
        model × language).
    higher_is_better
        False for losses and perplexities; it only turns the ranks around.
    level
        Significance level of the critical difference.

    Raises
    ------
    CarrickError
        Too few treatments or blocks, or a value that is no number.

    Notes
    -----
    Friedman (1937); critical difference and F after Demšar, "Statistical Comparisons of Classifiers over
    Multiple Data Sets" (2006), equations 6 and 7. χ² is an approximation: with fewer than ten blocks or
    five treatments read p with care.

    Examples
    --------
    >>> found = friedman([[0.9, 0.8, 0.7, 0.9], [0.5, 0.6, 0.5, 0.6], [0.1, 0.2, 0.3, 0.4]])
    >>> found.mean_ranks, round(found.statistic, 3), round(found.critical_difference, 3)
    ((1.0, 2.0, 3.0), 8.0, 1.657)
    """
    from scipy import stats  # noqa: PLC0415  (an extra)

    values = _table(table, fewest=3)
    k, n = values.shape
    ranks = _ranks(values, higher_is_better)
    spread = critical_difference(k, n, level)
    mean_ranks = tuple(float(rank) for rank in ranks.mean(axis=1))
    if np.all(values == values[0]):  # nothing to rank anywhere: scipy divides zero by zero
        return Friedman(0.0, 1.0, 0.0, 1.0, mean_ranks, n, spread, level)
    statistic, p = (float(number) for number in stats.friedmanchisquare(*values))
    remainder = n * (k - 1) - statistic
    f = (n - 1) * statistic / remainder if remainder > 1e-9 else math.inf
    p_f = float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
    return Friedman(statistic, p, f, p_f, mean_ranks, n, spread, level)


def critical_difference(treatments: int, blocks: int, level: float = 0.05) -> float:
    """Return how far apart two mean ranks must be to differ (Nemenyi).

    CD = q √(k (k + 1) / (6 n)), q the studentised range quantile of k groups and infinitely many degrees of
    freedom, divided by √2.

    Examples
    --------
    >>> round(critical_difference(4, 14, 0.10), 2)  # Demšar (2006), section 3.2.4
    1.12
    """
    from scipy import stats  # noqa: PLC0415

    q = float(stats.studentized_range.ppf(1 - level, treatments, np.inf)) / math.sqrt(2)
    return q * _rank_error(treatments, blocks)


def _rank_error(treatments: int, blocks: int) -> float:
    return math.sqrt(treatments * (treatments + 1) / (6 * blocks))


def nemenyi(table: ArrayLike, *, higher_is_better: bool = True) -> NDArray[np.float64]:
    """Compare all pairs of treatments after a Friedman test.

    Returns
    -------
    numpy.ndarray
        p values corrected for all pairs, shape (treatments, treatments), 1 on the diagonal.

    Raises
    ------
    CarrickError
        Too few treatments or blocks, or a value that is no number.
    """
    from scipy import stats  # noqa: PLC0415

    values = _table(table, fewest=2)
    k, n = values.shape
    means = _ranks(values, higher_is_better).mean(axis=1)
    apart = np.abs(means[:, None] - means[None, :]) / _rank_error(k, n)
    p: NDArray[np.float64] = np.clip(stats.studentized_range.sf(apart * math.sqrt(2), k, np.inf), 0.0, 1.0)
    np.fill_diagonal(p, 1.0)
    return p


def wilcoxon_holm(table: ArrayLike) -> list[Comparison]:
    """Compare all pairs of treatments by Wilcoxon's signed-rank test, p values corrected after Holm.

    Unlike Nemenyi's test it uses the sizes of the differences, and a pair's p value does not depend on the
    other treatments. Two-sided; exact for up to 50 blocks without ties or zero differences, as in scipy.

    Raises
    ------
    CarrickError
        Too few treatments or blocks, or a value that is no number.
    """
    from scipy import stats  # noqa: PLC0415

    values = _table(table, fewest=2)
    pairs = list(combinations(range(len(values)), 2))
    p = [
        1.0 if np.array_equal(values[i], values[j]) else float(stats.wilcoxon(values[i], values[j]).pvalue)
        for i, j in pairs
    ]
    adjusted = holm(p)
    return [Comparison(i, j, raw, each) for (i, j), raw, each in zip(pairs, p, adjusted, strict=True)]


def holm(p: ArrayLike) -> list[float]:
    """Correct p values for their number after Holm (1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    scaled = raw[order] * np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def bootstrap_interval(
    fn: Callable[..., float], *arrays: ArrayLike, seed: int, draws: int = 1000, level: float = 0.95
) -> Interval:
    """Return the percentile interval of a score over rows drawn with replacement.

    Parameters
    ----------
    fn
        The score of arrays of rows, such as `lambda labels, predicted: macro_f1(labels, predicted, 3)`.
    arrays
        What it takes, all with the same number of rows, which are drawn together.
    seed
        Seed of the draws: the same seed draws the same rows for every system.
    draws
        How many times rows are drawn.
    level
        Share of the draws inside the interval.

    Raises
    ------
    CarrickError
        No rows, or arrays of different lengths.

    Examples
    --------
    >>> low, high, error = bootstrap_interval(np.mean, [0.0, 1.0] * 50, seed=0)
    >>> low < 0.5 < high, 0.04 < error < 0.06
    (True, True)
    """
    columns = _columns(arrays)
    found = np.array([fn(*rows) for rows in _drawn(columns, seed, draws)])
    return _interval(found, level)


def paired_bootstrap(
    fn: Callable[..., float],
    first: ArrayLike,
    second: ArrayLike,
    *reference: ArrayLike,
    seed: int,
    draws: int = 1000,
    level: float = 0.95,
) -> PairedBootstrap:
    """Compare two systems on the same rows, which are drawn together with replacement.

    Parameters
    ----------
    fn
        The score, called as `fn(*reference, answers)`, higher or lower being better.
    first, second
        Answers (or scores) of the two systems, one each row.
    reference
        What both are scored against, such as the labels; nothing where the answers are scores already.
    seed, draws, level
        As of `bootstrap_interval`.

    Returns
    -------
    PairedBootstrap
        Score of the second minus that of the first. p is two-sided: twice the share of draws, one added to
        both counts, in which the difference is not on the side of the observed one.

    Raises
    ------
    CarrickError
        No rows, or arrays of different lengths.

    Notes
    -----
    Koehn, "Statistical Significance Tests for Machine Translation Evaluation" (2004); the count of one added
    to both sides after Davison and Hinkley (1997), so that p is never 0.

    Examples
    --------
    >>> labels = np.array([0, 1] * 50)
    >>> accuracy = lambda labels, answers: float((labels == answers).mean())
    >>> paired_bootstrap(accuracy, labels * 0, labels, labels, seed=0).difference
    0.5
    """
    columns = _columns((first, second, *reference))
    difference = _difference(fn, *columns)
    found = np.array([_difference(fn, *rows) for rows in _drawn(columns, seed, draws)])
    low, high, error = _interval(found, level)
    against = min(int((found <= 0).sum()), int((found >= 0).sum()))
    p = min(1.0, 2 * (against + 1) / (draws + 1))
    return PairedBootstrap(difference, low, high, error, p)


def _difference(fn: Callable[..., float], first: Any, second: Any, *reference: Any) -> float:
    return float(fn(*reference, second)) - float(fn(*reference, first))


def _columns(arrays: tuple[ArrayLike, ...]) -> list[NDArray[Any]]:
    columns = [np.asarray(array) for array in arrays]
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise CarrickError(f"rows are drawn together, but there are {sorted(lengths)} of them")
    if lengths == {0}:
        raise CarrickError("there are no rows to draw from")
    return columns


def _drawn(columns: list[NDArray[Any]], seed: int, draws: int) -> Any:
    random = np.random.default_rng(seed)
    rows = len(columns[0])
    for _ in range(draws):
        chosen = random.integers(0, rows, rows)
        yield [column[chosen] for column in columns]


def _interval(found: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), float(found.std(ddof=1)))


def _table(table: ArrayLike, fewest: int) -> NDArray[np.float64]:
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < fewest or values.shape[1] < 2:
        raise CarrickError(
            f"the table has the shape {values.shape}; it takes at least {fewest} treatments (rows) and two "
            "blocks (columns)"
        )
    if not np.isfinite(values).all():
        raise CarrickError("the table has a score that is no finite number")
    return values


def _ranks(values: NDArray[np.float64], higher_is_better: bool) -> NDArray[np.float64]:
    from scipy import stats  # noqa: PLC0415

    ranks: NDArray[np.float64] = stats.rankdata(-values if higher_is_better else values, axis=0)
    return ranks
