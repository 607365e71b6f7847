"""A language adapter beside frozen task adapters: only it trains, and a resumed run ends with the same weights."""

from __future__ import annotations

import json
import shutil

import pytest

from carrick.adapters import merge
from carrick.errors import CarrickError, ConfigError, PlanError
from train.llama_adapters import (
    KilledError,
    StopAt,
    factors,
    llama,
    logits,
    peft,
    quiet,
    save_adapter,
    save_base,
    torch,
    train,
    transformers,
    updates,
    with_adapter,
    write_rows,
)

pytest.importorskip("trl")
language_adapter = pytest.importorskip("carrick.train.language_adapter")
pytestmark = quiet

ADAPTER = {"rank": 3, "alpha": 6, "dropout": 0.05, "targets": ["q_proj", "v_proj", "up_proj", "down_proj"]}
TRAINING = {"steps": 6, "batch_size": 32, "learning_rate": 1e-2, "save_every": 2, "seed": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    save_base(folder / "base")
    save_adapter(folder / "ta", 0, lora_dropout=0.5)
    save_adapter(folder / "ta2", 1, rank=2)
    write_rows(folder / "de.jsonl", 32, "de", 0)
    return folder


def recipe(place, **changes):
    content = {
        "base": str(place / "base"),
        "method": "language_adapter",
        "data": {"train": {"file": str(place / "de.jsonl")}},
        "adapter": ADAPTER,
        "task_adapter": str(place / "ta"),
        "training": TRAINING,
    }
    return {**content, **changes}


@pytest.fixture(scope="module")
def trained(place):
    seen = {}
    original = language_adapter.fit

    def watched(live, job, **options):
        seen["before"] = {n: p.detach().clone() for n, p in live.named_parameters()}
        seen["trains"] = {n for n, p in live.named_parameters() if p.requires_grad}
        fitted = original(live, job, **options)
        seen["after"] = {n: p.detach().clone() for n, p in live.named_parameters()}
        return fitted

    language_adapter.fit = watched
    try:
        seen["report"] = train(recipe(place), place / "la")
    finally:
        language_adapter.fit = original
    return seen


def test_only_the_language_adapter_moves(trained):
    """Base and task adapter are the same bits as before; every factor of the language adapter is another."""
    assert trained["trains"]
    assert trained["trains"] == {name for name in trained["before"] if ".la." in name}
    moved = {
        name for name, value in trained["before"].items() if not torch.equal(value, trained["after"][name])
    }
    assert moved == trained["trains"]


def test_the_task_adapter_of_the_training_is_the_one_on_disk(trained, place):
    """It was loaded whole, and its file was not written."""
    for key, tensor in factors(place / "ta").items():
        name = key.replace(".weight", ".ta.weight")
        assert torch.equal(trained["after"][name], tensor), key


def test_the_task_adapter_takes_part(trained, place):
    """The first loss, of a batch of all rows, is that of base + task adapter without its dropout."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "base")
    rows = [json.loads(line) for line in (place / "de.jsonl").read_text().splitlines()]
    prompts, answers = (
        tokenizer([row[key] for row in rows])["input_ids"] for key in ("prompt", "completion")
    )
    ids = torch.tensor([[*p, *a, tokenizer.eos_token_id] for p, a in zip(prompts, answers, strict=True)])
    labels = ids.clone()
    labels[:, :5] = -100
    with torch.no_grad():
        want = with_adapter(place / "ta")(input_ids=ids, labels=labels).loss.item()
        alone = llama()(input_ids=ids, labels=labels).loss.item()
    losses = trained["report"].record["losses"]
    assert losses[0][0] == 1
    assert losses[0][1] == pytest.approx(want, abs=1e-4)
    assert abs(alone - want) > 0.01
    assert losses[-1][1] < want


def test_the_result_is_the_language_adapter_alone(trained, place):
    names = {path.name for path in (place / "la").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "training.json"}
    config = json.loads((place / "la" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (3, 6, "CAUSAL_LM")
    for key, tensor in factors(place / "la").items():
        assert torch.equal(tensor, trained["after"][key.replace(".weight", ".la.weight")])


@pytest.mark.usefixtures("trained")
def test_merged_by_cat_it_gives_the_logits_of_the_training(place, tmp_path):
    """θ = 1·θ_TA + 1·θ_LA, as both stood in the model."""
    merge([place / "ta", place / "la"], tmp_path / "both", method="cat")
    model = with_adapter(place / "ta")
    model.load_adapter(str(place / "la"), "la")
    model.base_model.set_adapter(["default", "la"])
    got = logits(with_adapter(tmp_path / "both"))
    torch.testing.assert_close(got, logits(model), rtol=0, atol=2e-5)
    assert not torch.allclose(got, logits(with_adapter(place / "ta")), atol=1e-3)


def test_the_record(trained):
    details = trained["report"].record["details"]
    assert details["initialisation"] == {"kind": "zero", "seed": 3, "modules": 8}
    assert [each["name"] for each in details["task_adapters"]] == ["ta"]
    assert len(details["task_adapters"][0]["sha256"]) == 64
    elements = sum(value.numel() for name, value in trained["after"].items() if ".la." in name)
    assert trained["report"].record["trainable_parameters"] == elements


@pytest.mark.usefixtures("trained")
def test_resumed_it_ends_as_if_it_had_not_been_stopped(place, tmp_path, monkeypatch):
    original = language_adapter.fit

    monkeypatch.setattr(
        language_adapter, "fit", lambda live, job, **o: original(live, job, callbacks=[StopAt(5)], **o)
    )
    with pytest.raises(KilledError):
        train(recipe(place), tmp_path / "la")
    assert not (tmp_path / "la").exists()
    monkeypatch.setattr(language_adapter, "fit", original)
    report = train(recipe(place), tmp_path / "la")
    assert report.record["resumed_from"] == 4
    want = factors(place / "la")
    assert all(torch.equal(tensor, want[key]) for key, tensor in factors(tmp_path / "la").items())


def test_several_task_adapters(place, tmp_path):
    content = recipe(
        place,
        task_adapter=[str(place / "ta"), str(place / "ta2")],
        initialisation="orthogonal",
        training={**TRAINING, "steps": 1, "learning_rate": 1e-30},
    )
    report = train(content, tmp_path / "la")
    assert [each["name"] for each in report.record["details"]["task_adapters"]] == ["ta_1", "ta_2"]
    ours = factors(tmp_path / "la")
    for name in ("ta", "ta2"):
        for key, theirs in factors(place / name).items():
            if "lora_A" in key:
                product = ours[key].double() @ theirs.double().T
                assert product.abs().max() <= 1e-6 * theirs.norm()
    assert all(abs(value).max() < 1e-20 for value in updates(tmp_path / "la").values())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"task_adapter": "no/such"}, (CarrickError, "no/such")),
        ({"adapter": {**ADAPTER, "targets": ["q_prj"]}}, (ConfigError, "q_proj")),
        (
            {"adapter": {**ADAPTER, "rank": 30}, "initialisation": "orthogonal"},
            (ConfigError, "no room for 30"),
        ),
        ({"initialisation": "ortho"}, (ConfigError, "orthogonal")),
        ({"task_adapter": "wrong"}, (ConfigError, "use the base that the adapter was trained on")),
        ({"task_adapter": "wide"}, (PlanError, "use the base that the adapter was trained on")),
        ({"task_adapter": "saved"}, (CarrickError, "modules_to_save")),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(place, tmp_path, monkeypatch, changes, told):
    if changes.get("task_adapter") in {"wrong", "wide", "saved"}:
        name = changes["task_adapter"]
        if name == "wrong":
            folder = save_adapter(tmp_path / name, 0, layers=3)
        elif name == "saved":
            folder = save_adapter(tmp_path / name, 0, modules_to_save=["lm_head"])
        else:
            model = llama(hidden_size=16, intermediate_size=24)
            config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
            folder = tmp_path / name
            peft.get_peft_model(model, config).save_pretrained(folder)
        changes = {"task_adapter": str(folder)}
    monkeypatch.setattr(language_adapter, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    error, words = told
    with pytest.raises(error, match=words) as raised:
        train(recipe(place, **changes), tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    shutil.rmtree(tmp_path / "out.carrick-partial", ignore_errors=True)
