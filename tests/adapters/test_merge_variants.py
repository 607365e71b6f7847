"""A variant means the same wherever it is asked for: mergekit's TIES is a mean, of one adapter twice the adapter."""

from __future__ import annotations

import pytest

from adapters.loading import updates_of
from adapters.merging import distance, lora, merged, merged_by_document, result
from adapters.zoo import torch
from carrick import methods
from carrick.cli import main
from carrick.torch import Module, Term, merge_on_device, read_options

METHODS = {"ties": {"rank": 50}, "knots_ties": {}}


@pytest.fixture(scope="module")
def one():
    return lora(3)


def times(factor, one):
    return {path: factor * matrix for path, matrix in one.updates().items()}


@pytest.mark.parametrize(("given", "factor"), [({}, 1), ({"normalize": False}, 2)], ids=str)
@pytest.mark.parametrize("method", METHODS)
class TestOneAdapterTwice:
    @pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
    def test_in_python(self, device, method, given, factor, one):
        report = merged(
            [one, one], method=method, density=1.0, variant="mergekit", parameters=given, device=device,
            **METHODS[method],
        )  # fmt: skip
        assert distance(result(report), times(factor, one)) <= 2e-6

    def test_in_a_document(self, method, given, factor, one):
        top = {"merge_method": method, "variant": "mergekit", "parameters": given, **METHODS[method]}
        assert distance(result(merged_by_document([one, one], top)), times(factor, one)) <= 2e-6

    def test_on_the_command_line(self, method, given, factor, one, tmp_path):
        folders = [str(one.write(tmp_path / name)) for name in ("one", "same")]
        words = ["-p", "variant=mergekit", *(["-p", "normalize=false"] if given else [])]
        words += [f"--{name}={value}" for name, value in METHODS[method].items()]
        out = str(tmp_path / "out")
        assert main(["adapters", "merge", *folders, "-o", out, "-m", method, "--density", "1", *words]) == 0
        assert distance(updates_of(tmp_path / "out"), times(factor, one)) <= 2e-6

    def test_in_a_live_model(self, method, given, factor, one):
        """What `add_merged_adapter` does between reading a model and changing it."""
        options = read_options(method, 2, density=1, variant="mergekit", **given, **METHODS[method])
        modules = []
        for path, (a, b) in one.factors.items():
            term = Term(torch.from_numpy(a), torch.from_numpy(b), one.scale(path))
            modules.append(Module.of(path, [term, term]))
        got = {m.path: (m.b.double() @ m.a.double()).numpy() for m in merge_on_device(modules, options)}
        assert distance(got, times(factor, one)) <= 2e-6


def test_the_variant_of_dare_ties_is_a_sum(one):
    """As mergekit's own default has it."""
    report = merged([one, one], method="knots_dare_ties", density=1.0, variant="mergekit")
    assert distance(result(report), times(2, one)) <= 2e-6
    assert not read_options("knots_dare_ties", 2, density=1, variant="mergekit").normalize


@pytest.mark.parametrize("method", ["ties", "dare_ties", "knots_ties", "knots_dare_ties"])
def test_a_device_has_the_variants_of_the_table(method):
    for variant in methods.get(method).variants:
        options = read_options(method, 2, density=0.5, rank=4, variant=variant.name)
        assert {name: getattr(options, name) for name, _ in variant.options} == dict(variant.options)
