"""How a language adapter begins: zero, orthogonal to task adapters, random."""

from __future__ import annotations

import numpy as np
import pytest

from carrick.errors import ConfigError
from train.llama_adapters import TARGETS, llama, logits, peft, quiet, save_adapter, torch, with_adapter

initialisation = pytest.importorskip("carrick.train.initialisation")
live_adapters = pytest.importorskip("carrick.train.live_adapters")
pytestmark = quiet


def rows(seed, rank, width):
    return torch.empty(rank, width).normal_(generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("width", "ranks", "rank"), [(32, [3], 3), (32, [8, 8], 8), (24, [8, 8], 8), (384, [8], 8)]
)
def test_orthogonal_rows_in_float64(width, ranks, rank):
    """Every row meets every row of the others at a right angle, and is as long as it was."""
    a, others = rows(0, rank, width), [rows(1 + i, r, width) for i, r in enumerate(ranks)]
    found = initialisation.orthogonal(a, others)
    assert found.dtype == torch.float32
    assert found.shape == a.shape
    new, old, stacked = (x.double().numpy() for x in (found, a, torch.cat(others)))
    lengths = np.linalg.norm(new, axis=1)
    cosines = new @ stacked.T / np.outer(lengths, np.linalg.norm(stacked, axis=1))
    assert np.abs(cosines).max() <= 1e-6
    np.testing.assert_allclose(lengths, np.linalg.norm(old, axis=1), rtol=1e-6)
    # It is the projection, not any orthogonal rows: the null space's projector gives the same directions.
    projector = np.eye(width) - np.linalg.pinv(stacked) @ stacked
    want = old @ projector
    want *= np.linalg.norm(old, axis=1, keepdims=True) / np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(new, want, atol=2e-6)
    assert np.linalg.matrix_rank(np.vstack([new, stacked])) == rank + sum(ranks)


def test_adapters_whose_rows_depend_on_each_other():
    """Two task adapters that share their A span less than their ranks say; the result is as orthogonal."""
    shared = rows(1, 4, 20)
    found = initialisation.orthogonal(rows(0, 3, 20), [shared, shared])
    assert (found.double() @ shared.double().T).abs().max() <= 1e-6


def test_no_room_is_refused():
    full = initialisation.orthogonal(rows(0, 4, 12), [rows(1, 8, 12)])
    assert full.shape == (4, 12)
    with pytest.raises(ConfigError, match="8 of 11 input features, which leaves no room for 4"):
        initialisation.orthogonal(rows(0, 4, 11), [rows(1, 8, 11)])
    with pytest.raises(ConfigError, match="no room"):
        initialisation.orthogonal(rows(0, 1, 8), [rows(1, 8, 8)])


def test_a_row_within_the_task_adapter_is_refused():
    others = rows(1, 3, 10)
    with pytest.raises(ConfigError, match="nothing of it is left"):
        initialisation.orthogonal(others[:1] * 2, [others])


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return [save_adapter(folder / str(seed), seed) for seed in range(2)]


def model_with(adapters, kind, targets=TARGETS, **options):
    placed = live_adapters.find_adapters([str(a) for a in adapters], "ta")
    model = live_adapters.load_adapters(llama(), placed)
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=list(targets), task_type="CAUSAL_LM")
    model.add_adapter("la", config)
    names = [adapter.name for adapter in placed]
    done = initialisation.initialise(model, "la", kind, names, **options)
    live_adapters.activate(model, [*names, "la"], trained=["la"])
    return model, names, done


def factors_of(model, name):
    return {
        path: (layer.lora_A[name].weight.data, layer.lora_B[name].weight.data)
        for path, layer in model.named_modules()
        if hasattr(layer, "lora_A") and name in layer.lora_A
    }


@pytest.mark.parametrize("kind", ["zero", "orthogonal"])
def test_the_model_begins_as_the_task_adapter(adapters, kind):
    model, _, _ = model_with(adapters[:1], kind)
    assert torch.equal(logits(model), logits(with_adapter(adapters[0])))
    assert all(not b.any() for _, b in factors_of(model, "la").values())


def test_zero_learns_and_the_literal_zero_does_not(adapters):
    """A = B = 0 has no gradient at all; B = 0 alone has one."""

    def gradients(model):
        model(input_ids=torch.tensor([[1, 5, 3]]), labels=torch.tensor([[1, 5, 3]])).loss.backward()
        return [p.grad.abs().max().item() for n, p in model.named_parameters() if ".la." in n]

    model, _, _ = model_with(adapters[:1], "zero")
    assert max(gradients(model)) > 0
    model.zero_grad()
    for a, _ in factors_of(model, "la").values():
        a.zero_()
    assert max(gradients(model)) == 0


@pytest.mark.parametrize("count", [1, 2])
def test_orthogonal_to_all_task_adapters_in_every_module(adapters, count):
    model, names, done = model_with(adapters[:count], "orthogonal", seed=3)
    assert done == {"kind": "orthogonal", "seed": 3, "modules": 8, "free": 0}
    found = factors_of(model, "la")
    assert len(found) == 8
    for name in names:
        for path, pair in factors_of(model, name).items():
            ours, theirs = found[path][0].double(), pair[0].double()
            cosines = ours @ theirs.T / torch.outer(ours.norm(dim=1), theirs.norm(dim=1))
            assert cosines.abs().max() <= 1e-6


def test_modules_that_the_task_adapter_does_not_have(adapters):
    model, _, done = model_with(adapters[:1], "orthogonal", targets=[*TARGETS, "o_proj"])
    assert (done["modules"], done["free"]) == (10, 2)
    other, _, _ = model_with(adapters[:1], "zero", targets=[*TARGETS, "o_proj"])
    path = "base_model.model.model.layers.1.self_attn.o_proj"
    assert torch.equal(factors_of(model, "la")[path][0], factors_of(other, "la")[path][0])


def test_random_has_the_stated_deviation(adapters):
    model, _, done = model_with(adapters[:1], "random", sigma=0.05, seed=1)
    assert done == {"kind": "random", "seed": 1, "modules": 8, "sigma": 0.05}
    for index in range(2):
        values = torch.cat([pair[index].flatten() for pair in factors_of(model, "la").values()]).double()
        error = 0.05 / (2 * len(values)) ** 0.5
        assert abs(values.std().item() - 0.05) <= 4 * error
        assert abs(values.mean().item()) <= 4 * 0.05 / len(values) ** 0.5
    assert not torch.equal(logits(model), logits(with_adapter(adapters[0])))


def test_nothing_is_left_of_what_was_there(adapters):
    """Initialised again, B is zero and A no longer the random one."""
    model, _, _ = model_with(adapters[:1], "random")
    before = {path: a.clone() for path, (a, _) in factors_of(model, "la").items()}
    initialisation.initialise(model, "la", "zero")
    for path, (a, b) in factors_of(model, "la").items():
        assert not b.any()
        assert not torch.equal(a, before[path])


def test_draws_depend_on_the_seed_alone(adapters):
    def a_of(kind, seed):
        return torch.cat(
            [a.flatten() for a, _ in factors_of(model_with(adapters[:1], kind, seed=seed)[0], "la").values()]
        )

    torch.manual_seed(1)
    first = a_of("zero", 5)
    before = torch.get_rng_state()
    initialisation.kaiming(torch.empty(2, 3), torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, a_of("zero", 5))
    assert not torch.equal(first, a_of("zero", 6))
    # Kaiming-uniform with a = √5 has the bound 1/√in; the smallest input of these modules is 32 wide.
    assert 0.9 / 32**0.5 <= first.abs().max() <= 1 / 32**0.5


def test_mistakes(adapters):
    with pytest.raises(ConfigError, match="did you mean `orthogonal`"):
        model_with(adapters[:1], "ortogonal")
    with pytest.raises(ConfigError, match="`sigma` is 0"):
        model_with(adapters[:1], "random", sigma=0.0)
    wide = save_adapter(adapters[0].parent / "wide", 3, rank=30)
    with pytest.raises(ConfigError, match=r"layers\.0\..*no room for 3"):
        model_with([wide], "orthogonal")
