"""Rank and alpha patterns mean what PEFT means by them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.zoo import peft
from carrick.adapters.patterns import Patterns, exact

SEGMENTS = st.sampled_from(["model", "layers", "h", "0", "1", "10", "q_proj", "k-v", "x", "encoder"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=5).map(".".join)
OPERATORS = st.sampled_from([
    "q_proj", ".*q_proj", r"layers\.\d+\.x", "(q_proj|x)", "^model", "^h.1.x", r"^encoder\.h", "1", "0.x",
    r"\w+", "proj", "", "h.*", "[01]", r"k\-v", "k-v", "q_proj|x",
])  # fmt: skip
PATTERN = st.one_of(PATHS, PATHS.map(re.escape), PATHS.map(lambda path: "^" + re.escape(path)), OPERATORS)


@settings(max_examples=300)
@given(st.lists(PATTERN, max_size=6, unique=True), PATHS)
@example(["q_proj", ".*q_proj"], "h.q_proj")
@example([".*q_proj", "q_proj"], "h.q_proj")
@example(["h", "^h", "h.*"], "h")
def test_the_pattern_found_is_that_of_peft(patterns, path):
    expected = peft.utils.other.get_pattern_key(patterns, path)
    found = Patterns({pattern: pattern for pattern in patterns}).find(path)
    assert found == (expected if expected in patterns and _matches(expected, path) else None)


def _matches(pattern: str, path: str) -> bool:
    # PEFT returns the path itself where nothing matches, which may be spelt like a pattern that does not.
    return re.match(rf"(.*\.)?({pattern})$", path) is not None


@given(st.sets(PATHS, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_exact_patterns_match_their_module_alone_in_any_order(paths, random):
    patterns = list(exact(sorted(paths)).items())
    random.shuffle(patterns)
    keys = [pattern for _, pattern in patterns]
    ours = Patterns({pattern: path for path, pattern in patterns})
    for path, pattern in patterns:
        assert peft.utils.other.get_pattern_key(keys, path) == pattern
        assert ours.find(path) == path


def test_many_patterns_are_looked_up():
    # An adapter of a mixture of experts has tens of thousands of modules; searching would be quadratic.
    paths = [f"model.layers.{layer}.mlp.experts.{expert}.w1" for layer in range(60) for expert in range(256)]
    ranks = Patterns({pattern: path for path, pattern in exact(paths).items()})
    assert not ranks._searched
    assert all(ranks.find(path) == path for path in paths)


def test_a_malformed_pattern():
    with pytest.raises(Exception, match=r"file: `rank_pattern`: '\(x' is not a regular expression"):
        Patterns({"(x": 1}, "file: `rank_pattern`")
