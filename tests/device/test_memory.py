"""When a device runs out of memory: smaller batches, nothing held, the same result; then one clear error."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch

from carrick.errors import CarrickError
from carrick.torch import consensus, prepared, read_options
from carrick.torch import joint as joint_module
from carrick.torch.device import in_batches
from carrick.torch.task_vectors import TaskVectors
from device.models import dense, merge, modules_of, random_model
from device.oracle import relative_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SAME_SHAPE = {f"layers.{i}.q": (20, 30) for i in range(7)}


def test_batches_halve_until_they_fit() -> None:
    tried: list[int] = []

    def work(batch: Sequence[int]) -> list[int]:
        tried.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(batch)

    assert list(in_batches(range(7), 7, work, lambda: False)) == list(range(7))
    assert tried == [7, 3, 1, 1, 1, 1, 1, 1, 1]


def test_room_is_made_before_one_module_is_given_up() -> None:
    asked: list[str] = []

    def work(batch: Sequence[str]) -> list[str]:
        if not asked:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
        return list(batch)

    def room() -> bool:
        asked.append("room")
        return True

    assert list(in_batches(["a"], 1, work, room)) == ["a"]
    assert asked == ["room"]


def test_a_module_that_never_fits_is_one_clear_error() -> None:
    def work(_batch: Sequence[str]) -> list[str]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    message = r"layers.0.q: the device's memory does not suffice .*Tried to allocate 2 GiB\.\); free some"
    with pytest.raises(CarrickError, match=message):
        list(in_batches(["layers.0.q"], 1, work, lambda: False))


def failing(function: Callable[..., Any], times: int, fails: Callable[..., bool]) -> Callable[..., Any]:
    """The function, but that it runs out of memory `times` times where `fails` says so."""
    left = [times]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if left[0] and fails(*args):
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return function(*args, **kwargs)

    return wrapped


METHODS = [
    ("knots_ties", {"density": 0.3}),
    ("knots_ties", {"density": 0.3, "variant": "paper"}),
    ("knots_dare_ties", {"density": 0.5}),
    ("svd", {"rank": 3}),
]


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_a_merge_goes_on_with_smaller_batches(
    method: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(41, shapes=SAME_SHAPE)
    want = {path: dense(merged) for path, merged in merge(model, method, **options).items()}
    decompose = failing(joint_module.decompose, 99, lambda left, *_: left.shape[0] > 2)
    monkeypatch.setattr(joint_module, "decompose", decompose)
    for path, merged in merge(model, method, **options).items():
        assert relative_error(dense(merged), want[path]) < 1e-6


@pytest.mark.parametrize("after", range(7))
def test_a_step_that_is_taken_again_finds_everything_as_it_was(
    after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step runs out of memory; the copies that equal a threshold are counted once."""
    model = random_model(42, shapes=SAME_SHAPE)
    # Modules that are copies of each other have entries that equal the threshold, in order.
    model = dict.fromkeys(model, model["layers.0.q"])
    options = {"density": 0.31, "variant": "paper"}
    want = {path: dense(merged) for path, merged in merge(model, "knots_ties", **options).items()}
    count = [0]

    def now(*_args: Any) -> bool:
        count[0] += 1
        return count[0] == after + 1

    monkeypatch.setattr(consensus, "votes", failing(consensus.votes, 1, now))
    got = {path: dense(merged) for path, merged in merge(model, "knots_ties", **options).items()}
    for path, matrix in want.items():
        assert relative_error(got[path], matrix) < 1e-12
    monkeypatch.undo()
    count[0] = 0
    monkeypatch.setattr(prepared.Joint, "basis", failing(prepared.Joint.basis, 1, now))
    got = {path: dense(merged) for path, merged in merge(model, "knots_ties", **options).items()}
    for path, matrix in want.items():
        assert relative_error(got[path], matrix) < 1e-6


def test_a_majority_that_is_counted_again_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one adapter every kept entry is a vote: one that is used up twice is missing."""
    model = random_model(43, ranks=(4,), shapes=SAME_SHAPE)
    modules = modules_of(dict.fromkeys(model, model["layers.0.q"]))
    options = read_options("knots_ties", 1, density=0.31, at_threshold="lowest_index")
    cpu = torch.device("cpu")

    def majority() -> int:
        source = prepared.Prepared(modules, options, cpu)
        return TaskVectors(modules, [module.a_name for module in modules], source, options, cpu).majority

    want = majority()
    votes = consensus.votes
    for after in range(7):
        calls = itertools.count()
        monkeypatch.setattr(consensus, "votes", failing(votes, 1, lambda *_, c=calls, n=after: next(c) == n))
        assert majority() == want
