"""Both sides of a partition in turn: what is frozen stays the same bits, weights, moments and step counts alike."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from carrick.errors import ConfigError
from train.llama_adapters import (
    WORDS,
    KilledError,
    StopAt,
    factors,
    llama,
    load_file,
    logits,
    quiet,
    save_base,
    torch,
    train,
    transformers,
    with_adapter,
    write_rows,
)

recipes = pytest.importorskip("carrick.train.recipe")
partition = pytest.importorskip("carrick.train.partition")
switching = pytest.importorskip("carrick.train.switching")
pytest.importorskip("trl")
simultaneous = pytest.importorskip("carrick.train.simultaneous")
pytestmark = quiet

ADAPTER = {"rank": 2, "targets": ["q_proj", "up_proj"]}
SIDES = ("task", "language")


class TestSwitching:
    @pytest.mark.parametrize("turn", [1, 2, 5])
    def test_every_step_takes_rows_of_one_source(self, turn):
        places = {"task": list(range(0, 14, 2)), "language": list(range(1, 10, 2))}
        sampler = switching.AlternatingSampler(
            places, rows_per_step=4, steps=20, steps_per_switch=turn, seed=3
        )
        order = list(sampler)
        assert len(order) == len(sampler) == 80
        for step in range(20):
            parity = {place % 2 for place in order[4 * step : 4 * step + 4]}
            assert parity == {step // turn % 2}
        assert order == list(sampler)
        other = switching.AlternatingSampler(places, rows_per_step=4, steps=20, steps_per_switch=turn, seed=4)
        assert order != list(other)

    def test_every_row_of_a_source_is_seen_once_before_any_is_seen_again(self):
        places = {"task": list(range(6)), "language": [10, 11, 12]}
        order = list(
            switching.AlternatingSampler(places, rows_per_step=2, steps=12, steps_per_switch=1, seed=0)
        )
        for side, rows in places.items():
            mine = [place for place in order if place in rows]
            assert len(mine) == 12
            for start in range(0, 12, len(rows)):
                assert sorted(mine[start : start + len(rows)]) == rows, side
        assert order[:12] != order[12:]

    @pytest.mark.parametrize(
        ("rows", "batch", "epochs", "turn", "steps"),
        [((64, 64), 8, 1, 1, 16), ((64, 10), 8, 1, 1, 16), ((10, 65), 8, 1, 1, 18), ((64, 64), 8, 2, 1, 32),
         ((64, 64), 8, 1, 5, 20), ((64, 64), 8, 0.5, 1, 8), ((3, 2), 64, 1, 50, 100)],
    )  # fmt: skip
    def test_both_sides_get_the_same_number_of_steps(self, rows, batch, epochs, turn, steps):
        found = switching.steps_of_epochs(rows, batch, epochs, turn)
        assert found == steps
        turns = Counter(switching.side_of_step(step, turn) for step in range(found))
        assert turns == {"task": steps // 2, "language": steps // 2}

    def test_a_frozen_side_keeps_no_gradient(self):
        """One that was left would be clipped with the others', and stepped with."""
        parameters = {side: [torch.nn.Parameter(torch.ones(2))] for side in SIDES}
        switch = switching.SwitchPartitions(parameters, 1)
        for step in range(3):
            for (parameter,) in parameters.values():
                parameter.grad = torch.ones(2)
            switch.on_step_begin(None, transformers.TrainerState(global_step=step), None)
            turn = SIDES[step % 2]
            for side, (parameter,) in parameters.items():
                assert parameter.requires_grad == (side == turn)
                assert (parameter.grad is None) == (side != turn)
        switch.on_train_end(None, None, None)
        assert all(parameter.requires_grad for (parameter,) in parameters.values())

    def test_a_number_of_steps_that_favours_one_side(self):
        switching.check_steps(200, 50)
        with pytest.raises(ConfigError, match="multiple of 100; write `steps: 200`"):
            switching.check_steps(150, 50)
        with pytest.raises(ConfigError, match="multiple of 2"):
            switching.check_steps(7, 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simultaneous")
    save_base(folder / "base", 4)
    write_rows(folder / "en.jsonl", 24, "en", 0)
    write_rows(folder / "de.jsonl", 12, "de", 1)
    return folder


def recipe(place, *, adapter=None, turn=2, name="B", training=None):
    content = {
        "base": str(place / "base"),
        "method": "simultaneous",
        "sources": {
            "task": {"train": {"file": str(place / "en.jsonl")}},
            "language": {"train": {"file": str(place / "de.jsonl")}},
        },
        "partition": {"name": name},
        "steps_per_switch": turn,
        "training": {
            "steps": 8,
            "batch_size": 2,
            "accumulate": 2,
            "learning_rate": 1e-2,
            "weight_decay": 0.1,
            "schedule": "constant_with_warmup",
            "warmup": 2,
            "clip_norm": 0.1,
            "save_every": 3,
            "seed": 1,
            **(training or {}),
        },
    }
    return content | ({"adapter": adapter} if adapter else {})


class Watch(transformers.TrainerCallback):
    """Takes down weights, optimizer states, gradients and inputs before and after every step."""

    def __init__(self):
        self.states, self.gradients, self.norms, self.words, self.rates = [], [], [], [], []

    def state(self, model, optimizer):
        optimizer = getattr(optimizer, "optimizer", optimizer)
        found = {}
        for name, parameter in model.named_parameters():
            moments = optimizer.state.get(parameter, {})
            found[name] = [parameter.detach().clone(), *(moments[key].clone() for key in sorted(moments))]
        return found

    def on_train_begin(self, _args, state, _control, **kwargs):
        self.states.append(self.state(kwargs["model"], kwargs["optimizer"]))
        groups = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"]).param_groups
        self.optimized = {id(parameter) for group in groups for parameter in group["params"]}
        self.trained = {
            name for name, parameter in kwargs["model"].named_parameters() if id(parameter) in self.optimized
        }
        self.optimizer = id(getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"]))
        self.hook = (
            kwargs["model"]
            .get_input_embeddings()
            .register_forward_hook(
                lambda _module, inputs, _output: self.words.append((state.global_step, inputs[0].clone()))
            )
        )

    def on_pre_optimizer_step(self, _args, _state, _control, **kwargs):
        found = {n: p.grad.clone() for n, p in kwargs["model"].named_parameters() if p.grad is not None}
        self.gradients.append(set(found))
        self.norms.append(torch.stack([grad.norm() for grad in found.values()]).norm().item())
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, _args, _state, _control, **kwargs):
        self.states.append(self.state(kwargs["model"], kwargs["optimizer"]))

    def on_train_end(self, _args, _state, _control, **kwargs):
        self.hook.remove()
        self.after = {name: p.requires_grad for name, p in kwargs["model"].named_parameters()}


def run(content, out, watch):
    original = simultaneous.fit
    kept = {}

    def watched(live, job, *, callbacks, **options):
        fitted = original(live, job, callbacks=[*callbacks, watch], **options)
        kept["logits"] = logits(live)
        return fitted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simultaneous, "fit", watched)
        kept["report"] = train(content, out)
    return kept


@pytest.fixture(scope="module", params=["full", "lora"])
def trained(request, place):
    adapter = ADAPTER if request.param == "lora" else None
    watch = Watch()
    out = place / request.param
    kept = run(recipe(place, adapter=adapter), out, watch)
    sides = {}
    for name in watch.states[0]:
        bare = partition.stored_name(name)
        sides[name] = partition.Sides(
            {n: p.numel() for n, p in llama(4).named_parameters()}, recipes.Partition(name="B")
        ).of(bare)
    return {"watch": watch, "out": out, "sides": sides, "adapter": adapter, **kept}


def same(one, two):
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_frozen_weights_moments_and_step_counts_stay_the_same_bits(trained):
    """Steps come in turns of two: task, task, language, language, …"""
    watch, sides = trained["watch"], trained["sides"]
    assert len(watch.states) == 9
    for step in range(8):
        turn = SIDES[step // 2 % 2]
        before, after = watch.states[step], watch.states[step + 1]
        for name in watch.trained:
            if sides[name] == turn:
                # The rate of the first step of a warmup is 0: its moments are there, and its weights the same.
                assert not same(before[name], after[name]), (step, name)
                assert torch.equal(before[name][0], after[name][0]) == (step == 0), (step, name)
            else:
                assert same(before[name], after[name]), (step, name)


def test_one_optimizer_holds_both_sides(trained):
    """All that ever trains was given to it at the start; each side has counted its own steps in the end."""
    watch, sides = trained["watch"], trained["sides"]
    assert {sides[name] for name in watch.trained} == set(SIDES)
    wanted = {name for name in sides if trained["adapter"] is None or "lora_" in name}
    assert watch.trained == wanted
    for name in watch.trained:
        weight, average, square, step = watch.states[-1][name]
        assert step.item() == 4, name
        assert average.shape == square.shape == weight.shape
        assert len(watch.states[0][name]) == 1
        assert len(watch.states[1][name]) == (4 if sides[name] == "task" else 1)


def test_what_does_not_train_stays(trained):
    watch = trained["watch"]
    for name in set(trained["sides"]) - watch.trained:
        assert same(watch.states[0][name], watch.states[-1][name])


def test_gradients_and_clipping_are_of_the_side_whose_turn_it_is(trained):
    watch, sides = trained["watch"], trained["sides"]
    for step, names in enumerate(watch.gradients):
        assert names == {name for name in watch.trained if sides[name] == SIDES[step // 2 % 2]}
    assert watch.norms == pytest.approx([0.1] * 8, rel=1e-3)
    assert watch.rates == pytest.approx([0.0, 5e-3, *[1e-2] * 6])


def test_batches_come_from_the_source_of_that_side(trained):
    """The languages have no word in common, so that every batch tells where it is from."""
    counted = Counter()
    for step, tokens in trained["watch"].words:
        words = {int(token) for row in tokens for token in row if token >= 4}
        english = {token < 4 + len(WORDS) // 2 for token in words}
        assert english == {step // 2 % 2 == 0}, step
        counted[step] += len(tokens)
    assert counted == dict.fromkeys(range(8), 4)


def test_afterwards_everything_may_train_again(trained):
    watch = trained["watch"]
    assert {name for name, grad in watch.after.items() if grad} == watch.trained


def test_the_result_is_what_was_trained(trained):
    if trained["adapter"] is None:
        model = transformers.AutoModelForCausalLM.from_pretrained(trained["out"])
    else:
        model = with_adapter(trained["out"], 4)
    torch.testing.assert_close(logits(model), trained["logits"], rtol=0, atol=1e-5)


def test_the_record(trained):
    record = json.loads((trained["out"] / "training.json").read_text())
    details = record["details"]
    assert details["steps"] == {"task": 4, "language": 4}
    assert (details["steps_per_switch"], details["effective_batch"]) == (2, 4)
    assert (record["steps"], record["samples_seen"]) == (8, 32)
    counts = Counter()
    for name in trained["watch"].trained:
        counts[trained["sides"][name]] += trained["watch"].states[0][name][0].numel()
    assert details["parameters"] == dict(counts)


@pytest.mark.parametrize("stop", [4, 7])
def test_resumed_it_ends_as_if_it_had_not_been_stopped(place, trained, tmp_path, stop):
    """Checkpoints after steps 3 and 6: within the language's turn, and at the task's."""
    content = recipe(place, adapter=trained["adapter"])
    with pytest.raises(KilledError):
        run(content, tmp_path / "out", StopAt(stop))
    report = train(content, tmp_path / "out")
    assert report.record["resumed_from"] == (3 if stop == 4 else 6)
    if trained["adapter"] is None:
        got, want = (load_file(each / "model.safetensors") for each in (tmp_path / "out", trained["out"]))
    else:
        got, want = factors(tmp_path / "out"), factors(trained["out"])
    assert got.keys() == want.keys()
    for key, tensor in want.items():
        assert torch.equal(got[key], tensor), key


def test_epochs_are_passes_over_the_larger_source(place, tmp_path):
    content = recipe(place, adapter=ADAPTER, turn=4)
    del content["training"]["steps"]
    content["training"]["epochs"] = 1
    planned = train(content, tmp_path / "out", dry_run=True).record
    report = train(content, tmp_path / "out")
    assert (planned["steps"], planned["samples_seen"]) == (16, 64)
    assert planned["epochs"] == report.record["epochs"]
    # 24 rows of the task in batches of 4 are 6 steps, in turns of 4: 8, and as many for the language.
    assert report.record["steps"] == 16
    assert report.record["details"]["steps"] == {"task": 8, "language": 8}
    assert report.record["epochs"] == pytest.approx(8 * 4 / 24)


def test_each_source_gives_half_of_the_tokens(place, tmp_path):
    """24 rows of 9 tokens and 12 of 3 to 5, in batches of which every other is of the shorter ones."""
    short = [{"prompt": "w31 ", "completion": f"w32 {'w33 ' * (n % 3)}"} for n in range(12)]
    (tmp_path / "de.jsonl").write_text("".join(json.dumps(row) + "\n" for row in short))
    content = recipe(place, adapter=ADAPTER, training={"steps": 12})
    content["sources"]["language"]["train"]["file"] = str(tmp_path / "de.jsonl")
    planned = train(content, tmp_path / "out", dry_run=True).record
    record = train(content, tmp_path / "out").record
    for found in (planned, record):
        # 6 steps of 4 rows of each source: every row of the task once, each of the language's twice.
        assert found["tokens_seen"] == 24 * 9 + 2 * 12 * 4
        assert found["data"]["train"]["tokens"] == 24 * 9 + 12 * 4
        assert (found["samples_seen"], found["epochs"]) == (48, 1.0)


def test_what_is_kept_has_trained_both_sides_equally_long(place, tmp_path):
    """Three passes of turns of 4: an evaluation a third of the way would be amid a turn."""
    content = recipe(place, adapter=ADAPTER, turn=4, training={"save_every": "epoch"})
    content["sources"]["task"]["validation"] = {"file": str(place / "en.jsonl"), "rows": 3}
    del content["training"]["steps"]
    content["training"]["epochs"] = 3
    record = train(content, tmp_path / "out").record
    assert record["steps"] == 40
    assert [step for step, _ in record["validation"]] == [16, 32, 40]
    assert record["best_step"] in {16, 32, 40}


def test_a_grid_by_the_validation_of_a_source(place, tmp_path):
    content = recipe(place, adapter=ADAPTER, training={"evaluate_every": 4})
    content["search"] = {"learning_rate": [1e-3, 1e-2], "select": "validation"}
    with pytest.raises(ConfigError, match=r"`select: validation` needs `sources\.task\.validation`"):
        train(content, tmp_path / "out")
    content["sources"]["language"]["validation"] = {"file": str(place / "de.jsonl"), "rows": 3}
    record = train(content, tmp_path / "out").record
    losses = [point["validation_loss"] for point in record["search"]["points"]]
    assert record["search"]["best"] == losses.index(min(losses))


def of_two_kinds(content):
    source = content["sources"]["language"]
    source["columns"] = {"text": "prompt"}


def evaluated_amid_a_turn(content):
    content["training"]["evaluate_every"] = 6
    content["sources"]["task"]["validation"] = {"fraction": 0.2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_two_kinds, r"de\.jsonl holds plain texts and .*en\.jsonl prompts with answers"),
        (evaluated_amid_a_turn, "`evaluate_every` is 6, .* write a multiple of 4, or `keep: last`"),
        (lambda c: c["training"].update(steps=6), "multiple of 4; write `steps: 8`"),
        (lambda c: c["partition"].update(side="task"), "remove it"),
        (lambda c: c.update(adapter={**ADAPTER, "layers": [1, 2]}), "on the side of the language"),
        (lambda c: c.update(partition={"match": "nothing_such"}), "on the side of the language"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(place, tmp_path, monkeypatch, change, words):
    monkeypatch.setattr(simultaneous, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    content = recipe(place)
    change(content)
    with pytest.raises(ConfigError, match=words):
        train(content, tmp_path / "out")


def test_several_processes_are_refused(place, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="run it on one"):
        train(recipe(place), tmp_path / "out")
