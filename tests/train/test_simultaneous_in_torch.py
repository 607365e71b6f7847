"""Simultaneous training of LoRA factors against a loop of its own: float64, AdamW from its formula, no trainer."""

from __future__ import annotations

import math

import pytest

from train.llama_adapters import factors, llama, quiet, save_base, torch, train, transformers, write_rows

pytest.importorskip("trl")
simultaneous = pytest.importorskip("carrick.train.simultaneous")
pytestmark = quiet

RANK, ALPHA, LAYERS, STEPS, RATE, DECAY, CLIP, WARMUP = 2, 3.0, 4, 12, 1e-2, 0.1, 0.1, 2
TARGETS = ("q_proj", "up_proj")
# Partition B of four layers (XLT §3.3): the first and the last are the language's.
LANGUAGE = {0, 3}


class Record(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Takes down the factors before training, and what each step is computed from."""

    def __init__(self):
        self.batches, self.first = [], {}

    def on_train_begin(self, _args, _state, _control, **kwargs):
        model = kwargs["model"]
        self.first = {n: p.detach().double() for n, p in model.named_parameters() if "lora_" in n}
        self.hook = model.register_forward_pre_hook(
            lambda _module, _args, given: self.batches.append(
                {key: given[key].clone() for key in ("input_ids", "attention_mask", "labels")}
            ),
            with_kwargs=True,
        )

    def on_train_end(self, _args, _state, _control, **_kwargs):
        self.hook.remove()


class Low(torch.nn.Module):
    """A linear map with s·B·A beside it."""

    def __init__(self, linear, a, b):
        super().__init__()
        self.linear = linear
        self.a, self.b = torch.nn.Parameter(a.clone()), torch.nn.Parameter(b.clone())

    def forward(self, x):
        return self.linear(x) + ALPHA / math.sqrt(RANK) * (x @ self.a.T) @ self.b.T


def adapt(first):
    """The base in float64 with factors of our own, and those of each side by name."""
    model = llama(LAYERS).double().requires_grad_(False)
    sides = {"task": {}, "language": {}}
    for name in [name for name in first if ".lora_A." in name]:
        path = name.removeprefix("base_model.model.").removesuffix(".lora_A.default.weight")
        parent, _, leaf = path.rpartition(".")
        low = Low(model.get_submodule(path), first[name], first[name.replace("lora_A", "lora_B")])
        setattr(model.get_submodule(parent), leaf, low)
        side = "language" if int(path.split(".")[2]) in LANGUAGE else "task"
        stem = f"base_model.model.{path}"
        sides[side] |= {f"{stem}.lora_A.weight": low.a, f"{stem}.lora_B.weight": low.b}
    return model, sides


def replay(record, turn):
    """Train on the same batches: only the side whose turn it is has gradients, a norm, moments and a step count."""
    model, sides = adapt(record.first)
    moments = {name: [0, 0.0, 0.0] for side in sides.values() for name in side}
    losses = []
    for step, batch in enumerate(record.batches):
        own = sides["task" if step // turn % 2 == 0 else "language"]
        labels = batch["labels"][:, 1:].flatten()
        scores = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        kept = labels != -100
        loss = -scores.flatten(0, 1).log_softmax(-1)[kept, labels[kept]].mean()
        losses.append(loss.item())
        gradients = dict(zip(own, torch.autograd.grad(loss, list(own.values())), strict=True))
        norm = math.sqrt(sum(float((g * g).sum()) for g in gradients.values()))
        rate = RATE * min(1.0, step / WARMUP)
        for name, weight in own.items():
            gradient = gradients[name] * min(1.0, CLIP / (norm + 1e-6))
            count, average, square = moments[name]
            count, average, square = (
                count + 1,
                0.9 * average + 0.1 * gradient,
                0.999 * square + 0.001 * gradient**2,
            )
            moments[name] = [count, average, square]
            change = (average / (1 - 0.9**count)) / ((square / (1 - 0.999**count)).sqrt() + 1e-8)
            weight.data = weight.data - rate * DECAY * weight.data - rate * change
    return losses, {name: weight.detach() for side in sides.values() for name, weight in side.items()}


@pytest.mark.parametrize("turn", [1, 3])
def test_losses_and_factors_are_those_of_a_loop_in_plain_torch(tmp_path, monkeypatch, turn):
    save_base(tmp_path / "base", LAYERS)
    for language, source in (("en", "task"), ("de", "language")):
        write_rows(tmp_path / f"{source}.jsonl", 24, language, len(language + source))
    content = {
        "base": str(tmp_path / "base"),
        "method": "simultaneous",
        "sources": {
            side: {"train": {"file": str(tmp_path / f"{side}.jsonl")}} for side in ("task", "language")
        },
        "partition": {"name": "B"},
        "steps_per_switch": turn,
        "adapter": {"rank": RANK, "alpha": ALPHA, "rslora": True, "targets": list(TARGETS)},
        "training": {
            "steps": STEPS,
            "batch_size": 4,
            "learning_rate": RATE,
            "weight_decay": DECAY,
            "schedule": "constant_with_warmup",
            "warmup": WARMUP,
            "clip_norm": CLIP,
            "save_every": "never",
            "seed": 1,
        },
    }
    record, fit = Record(), simultaneous.fit
    monkeypatch.setattr(
        simultaneous,
        "fit",
        lambda live, job, *, callbacks, **options: fit(live, job, callbacks=[*callbacks, record], **options),
    )
    report = train(content, tmp_path / "out")
    assert len(record.batches) == STEPS
    losses, wanted = replay(record, turn)
    assert [loss for _, loss in report.record["losses"]] == pytest.approx(losses, rel=1e-5)
    found = factors(tmp_path / "out")
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        # A thousandth of a step; float32's rounding of gradients is well below.
        torch.testing.assert_close(found[name].double(), weight, rtol=0, atol=RATE / 1000, msg=name)
