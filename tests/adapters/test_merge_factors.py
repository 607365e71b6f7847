"""`space: factors`: A and B merged apart, number for number as PEFT's `add_weighted_adapter` does it."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import carrick
from adapters.loading import updates_of
from adapters.merging import FILE, Lora, Q, V, distance, lora, merged, result
from adapters.zoo import gpt2, llama, peft, randomise, torch
from carrick.errors import PlanError
from oracles.files import read_file

WEIGHTS = [[1.0, 1.0, 1.0], [0.75, -1.5, 0.25], [2.0, 0.0, -1.0]]
KINDS = {
    "linear": {},
    "ties": {"density": 0.35},
    "magnitude_prune": {"density": 0.35},
    "dare_linear": {"density": 1.0},
    "dare_ties": {"density": 1.0},
}


def make(model, root, options):
    torch.manual_seed(0)
    wrapped = None
    names = ["default", "b", "c"]
    for number, name in enumerate(names):
        config = peft.LoraConfig(r=4, lora_alpha=4 + 3 * number, **options)
        if wrapped is None:
            wrapped = peft.get_peft_model(model(), config)
        else:
            wrapped.add_adapter(name, config)
        wrapped.set_adapter(name)
        randomise(wrapped)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.save_pretrained(root)
    return wrapped, names, [root, root / "b", root / "c"]


@pytest.fixture(scope="module")
def in_peft(tmp_path_factory):
    known = {}

    def get(name):
        if name not in known:
            model, options = {
                "llama": (llama, {"target_modules": ["q_proj", "embed_tokens"]}),
                "rslora": (llama, {"target_modules": ["v_proj", "down_proj"], "use_rslora": True}),
                "gpt2": (gpt2, {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
            }[name]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                known[name] = make(model, tmp_path_factory.mktemp(name), options)
        return known[name]

    return get


def of_peft(in_peft, weights, kind, **options):
    wrapped, names, _ = in_peft
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.add_weighted_adapter(names, weights, "merged", combination_type=kind, **options)
        found = peft.get_peft_model_state_dict(wrapped, adapter_name="merged", save_embedding_layers=False)
    wrapped.delete_adapter("merged")
    return {key: tensor.numpy() for key, tensor in found.items()}


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["llama", "rslora", "gpt2"])
def test_factors_are_those_of_peft(name, kind, weights, in_peft, tmp_path):
    theirs = of_peft(in_peft(name), weights, kind, **KINDS[kind])
    carrick.adapters.merge(
        in_peft(name)[2], tmp_path / "out", method=kind, weights=weights, space="factors", **KINDS[kind]
    )
    ours = {k: t for k, t in read_file(tmp_path / "out" / FILE).items() if ".lora_" in k}
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        np.testing.assert_allclose(ours[key], tensor, rtol=2e-6, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("density", [0.0, 0.001, 0.2, 0.99, 1.0])
@pytest.mark.parametrize("kind", ["ties", "magnitude_prune"])
@pytest.mark.filterwarnings("ignore:The density 1.0 is greater")
def test_densities(kind, density, in_peft, tmp_path):
    """int(d·n) entries of each factor, none where that is 0."""
    theirs = of_peft(in_peft("rslora"), WEIGHTS[1], kind, density=density)
    carrick.adapters.merge(
        in_peft("rslora")[2],
        tmp_path / "out",
        method=kind,
        weights=WEIGHTS[1],
        space="factors",
        density=density,
    )
    ours = read_file(tmp_path / "out" / FILE)
    for key, tensor in theirs.items():
        np.testing.assert_allclose(ours[key], tensor, rtol=2e-6, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("kind", ["ties", "dare_ties"])
def test_votes_by_frequency(kind, in_peft, tmp_path):
    options = KINDS[kind]
    theirs = of_peft(in_peft("llama"), WEIGHTS[1], kind, majority_sign_method="frequency", **options)
    carrick.adapters.merge(
        in_peft("llama")[2], tmp_path / "out", method=kind, weights=WEIGHTS[1], space="factors",
        parameters={"vote": "frequency"}, **options,
    )  # fmt: skip
    ours = read_file(tmp_path / "out" / FILE)
    for key, tensor in theirs.items():
        np.testing.assert_allclose(ours[key], tensor, rtol=2e-6, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("number", range(16))
def test_recorded_numbers(number, shared):
    """The fixture's tensors as A, with weights whose square roots are the fixture's."""
    fixture = json.loads((shared / "fixtures" / "peft_merge_utils.json").read_text())
    assert len(fixture["cases"]) == 16
    case = fixture["cases"][number]
    path = Q.format(0)
    tensors = [np.array(tensor, np.float32) for tensor in fixture["tensors"]]
    tensors = [np.atleast_2d(tensor) for tensor in tensors]
    adapters = [Lora({path: (a, np.ones((5, len(a)), np.float32))}) for a in tensors]
    vote = {"total": "sum", "frequency": "frequency"}.get(case["majority_sign_method"])
    report = merged(
        adapters,
        method=case["fn"],
        weights=[np.sign(w) * w**2 for w in fixture["weights"]],
        density=case["density"],
        parameters={"vote": vote} if vote else None,
        space="factors",
    )
    got = report.state_dict[f"base_model.model.{path}.lora_A.weight"]
    np.testing.assert_allclose(got, np.atleast_2d(np.array(case["out"])), atol=1e-6)


def test_cross_terms():
    """What is wrong with it: (ΣB)(ΣA) is not ΣBA. The default merge has no cross terms."""
    adapters = [lora(seed) for seed in range(2)]
    exact = {path: sum(one.updates()[path] for one in adapters) for path in adapters[0].factors}
    assert distance(result(merged(adapters)), exact) <= 1e-6
    apart = result(merged(adapters, method="linear", space="factors"))
    assert distance(apart, exact) > 0.5
    for path in exact:
        a, b = (sum(one.factors[path][i].astype(np.float64) for one in adapters) for i in (0, 1))
        np.testing.assert_allclose(apart[path], b @ a, atol=1e-6)


def test_lambda_scales_the_update_once():
    adapters = [lora(seed) for seed in range(2)]
    options = {"method": "task_arithmetic", "space": "factors"}
    one, half = (result(merged(adapters, parameters={"lambda": scale}, **options)) for scale in (1.0, 0.5))
    assert distance(half, {path: 0.5 * matrix for path, matrix in one.items()}) <= 1e-6


def test_different_ranks_are_refused():
    shapes = {Q.format(0): (8, 6), V.format(0): (8, 6)}
    adapters = [lora(i, shapes, {Q.format(0): 3, V.format(0): 3 + i}) for i in range(2)]
    with pytest.raises(
        PlanError, match=r"v_proj: the ranks differ \(3 in .*, 4 in .*leave `space: factors` out"
    ):
        merged(adapters, method="linear", space="factors")


@pytest.mark.parametrize("method", ["cat", "knots_ties", "layer_swap"])
def test_methods_without_factors(method):
    adapters = [lora(seed) for seed in range(2)]
    with pytest.raises(PlanError, match=rf"`space: factors` has linear, .*`{method}`"):
        merged(adapters, method=method, space="factors", density=0.5 if method == "knots_ties" else None)


def test_a_rank_beside_factors():
    with pytest.raises(PlanError, match="`space: factors` keeps the adapters' rank"):
        merged([lora(0)], method="linear", space="factors", rank=2)


def test_the_same_adapter_is_a_fixed_point(tmp_path):
    """√w on both sides of one adapter: w·B·A."""
    one = lora(3, alpha=5)
    folder = one.write(tmp_path / "one")
    carrick.adapters.merge([folder], tmp_path / "out", method="linear", weights=[-2], space="factors")
    want = {path: -2 * update for path, update in one.updates().items()}
    assert distance(updates_of(tmp_path / "out"), want) <= 1e-6
