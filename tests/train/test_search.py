"""The grid over learning rate and weight decay, its two rules, and what it leaves."""

from __future__ import annotations

import json

import pytest

import carrick
from carrick.partial import PartialFolder
from train.tiny import jsonl, llama, questions, torch

pytest.importorskip("trl")
fine_tune = pytest.importorskip("carrick.train.fine_tune")
fitting = pytest.importorskip("carrick.train.fitting")
run = pytest.importorskip("carrick.train.run")
resuming = pytest.importorskip("carrick.train.resuming")
load_file = pytest.importorskip("safetensors.torch").load_file


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    llama(folder / "llama")
    jsonl(folder / "qa.jsonl", questions(12))
    # What answers mean is turned round on validation: whoever learns most does worst.
    wrong = [{**row, "completion": " rain rain rain"} for row in questions(6)]
    jsonl(folder / "wrong.jsonl", wrong)
    return folder


def recipe(place, select, **changes):
    content = {
        "base": str(place / "llama"),
        "data": {
            "train": {"file": str(place / "qa.jsonl")},
            "validation": {"file": str(place / "wrong.jsonl")},
        },
        "adapter": {"rank": 2, "targets": ["q_proj", "v_proj"]},
        "training": {"epochs": 2, "batch_size": 4, "keep": "last", "schedule": "constant"},
        "search": {"learning_rate": [0.01, 0.1], "weight_decay": [0.0, 0.5], "select": select},
        "cost": {"price": 3.6, "currency": "EUR"},
    }
    return {**content, **changes}


def train(content, out, **options):
    return carrick.train(content, out, device="cpu", progress=False, **options)


def tensors(folder):
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("select", "measure"), [("training_loss", "final_epoch_loss"), ("validation", "validation_loss")]
)
def test_the_best_point_is_kept(place, tmp_path, select, measure):
    report = train(recipe(place, select), tmp_path / "out")
    search = report.record["search"]
    points = search["points"]
    grid = [(point["learning_rate"], point["weight_decay"]) for point in points]
    assert grid == [(0.01, 0.0), (0.01, 0.5), (0.1, 0.0), (0.1, 0.5)]
    assert search["best"] == min(range(4), key=lambda number: points[number][measure])
    # High rates learn the training rows, and with them what validation punishes.
    assert grid[search["best"]][0] == (0.1 if select == "training_loss" else 0.01)
    assert search["device_seconds"] == pytest.approx(sum(point["device_seconds"] for point in points))
    assert search["cost"] == pytest.approx(search["device_seconds"] * 3.6 / 3600)
    rate, decay = grid[search["best"]]
    training = {**recipe(place, select)["training"], "learning_rate": rate, "weight_decay": decay}
    alone = train(recipe(place, select, training=training, search=None), tmp_path / "alone")
    one, two = tensors(report.out), tensors(alone.out)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert sorted(path.name for path in report.out.iterdir()) == sorted(
        path.name for path in alone.out.iterdir()
    )
    assert json.loads((report.out / "training.json").read_text()) == report.record


def test_finished_points_are_not_trained_again(place, tmp_path, monkeypatch):
    began = []

    def fit(model, job, **options):
        began.append(job.stage)
        if len(began) == 3:
            raise KilledError
        return fitting.fit(model, job, **options)

    monkeypatch.setattr(fine_tune, "fit", fit)
    with pytest.raises(KilledError):
        train(recipe(place, "training_loss"), tmp_path / "out")
    report = train(recipe(place, "training_loss"), tmp_path / "out")
    assert began == [f"point {number} of 4" for number in (1, 2, 3, 3, 4)]
    straight = train(recipe(place, "training_loss"), tmp_path / "straight")
    for key in ("best", "select"):
        assert report.record["search"][key] == straight.record["search"][key]


def test_points_of_another_grid_are_other_points(place, tmp_path, monkeypatch):
    """A grid that was changed after a kill: what stood in the same place was trained with other values."""
    began = []

    def fit(model, job, **options):
        began.append((job.recipe.training.learning_rate, job.recipe.training.weight_decay))
        if len(began) == 2:
            raise KilledError
        return fitting.fit(model, job, **options)

    monkeypatch.setattr(fine_tune, "fit", fit)
    grid = {"learning_rate": [0.01, 0.1], "weight_decay": [0.0], "select": "training_loss"}
    with pytest.raises(KilledError):
        train(recipe(place, "training_loss", search=grid), tmp_path / "out")
    grid = {"learning_rate": [0.05, 0.01], "weight_decay": [0.0], "select": "training_loss"}
    report = train(recipe(place, "training_loss", search=grid), tmp_path / "out")
    assert began == [(0.01, 0.0), (0.1, 0.0), (0.05, 0.0)]
    assert [point["learning_rate"] for point in report.record["search"]["points"]] == [0.05, 0.01]


class Stopped:
    """Counts the trainings that begin, and breaks off with the first call of something else."""

    def __init__(self, monkeypatch):
        self.began = []
        self.patch = monkeypatch

        def fit(model, job, **options):
            self.began.append(job.stage)
            return fitting.fit(model, job, **options)

        monkeypatch.setattr(fine_tune, "fit", fit)

    def at(self, owner, name, content, out):
        def stop(*_args):
            raise KilledError

        with self.patch.context() as patch:
            patch.setattr(owner, name, stop)
            with pytest.raises(KilledError):
                train(content, out)


@pytest.mark.parametrize("before", [None, {"price": 1.0, "currency": "USD"}])
def test_a_price_that_comes_later_holds_for_all_points(place, tmp_path, monkeypatch, before):
    stopped = Stopped(monkeypatch)
    stopped.at(run, "_write", recipe(place, "training_loss", cost=before), tmp_path / "out")
    report = train(recipe(place, "training_loss"), tmp_path / "out")
    assert len(stopped.began) == 4
    record = report.record
    assert record["cost"] == pytest.approx(record["device_seconds"] * 3.6 / 3600)
    assert record["search"]["cost"] == pytest.approx(record["search"]["device_seconds"] * 3.6 / 3600)
    assert record["currency"] == record["recipe"]["cost"]["currency"] == "EUR"
    unpriced = train(recipe(place, "training_loss", cost=None), tmp_path / "unpriced").record
    assert unpriced["cost"] is unpriced["search"]["cost"] is None


def test_killed_before_the_record_is_written(place, tmp_path, monkeypatch):
    """Asked again by the other rule, the other point is the result, and none is trained again."""
    training = {**recipe(place, "validation")["training"], "snapshots": [2]}
    stopped = Stopped(monkeypatch)
    stopped.at(run, "_write", recipe(place, "validation", training=training), tmp_path / "out")
    report = train(recipe(place, "training_loss", training=training), tmp_path / "out")
    assert len(stopped.began) == 4
    straight = train(recipe(place, "training_loss", training=training), tmp_path / "straight")
    assert report.record["search"]["best"] == straight.record["search"]["best"]
    for name in (".", "snapshots/step-2"):
        one, two = tensors(report.out / name), tensors(straight.out / name)
        assert all(torch.equal(one[key], two[key]) for key in two)
    files = [
        sorted(str(path.relative_to(each.out)) for path in each.out.rglob("*")) for each in (report, straight)
    ]
    assert files[0] == files[1]


def test_a_folder_without_links(place, tmp_path, monkeypatch):
    linked = train(recipe(place, "validation"), tmp_path / "linked")

    def link(*_args):
        raise OSError

    monkeypatch.setattr("os.link", link)
    copied = train(recipe(place, "validation"), tmp_path / "copied")
    one, two = tensors(linked.out), tensors(copied.out)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_killed_amid_the_deletion_no_point_counts_as_finished(tmp_path, monkeypatch):
    marks = ["points/0.1-0.0/point.json", "checkpoints/checkpoint-3/clock.json"]

    def stop(*_args):
        raise KilledError

    with resuming.TrainingFolder(tmp_path / "out") as partial:
        for mark in marks:
            (partial.path / mark).parent.mkdir(parents=True)
            (partial.path / mark).write_text("{}")
        monkeypatch.setattr(PartialFolder, "_remove_all_but", stop)
        with pytest.raises(KilledError):
            partial.prepare_commit(set())
        assert (partial.path / "points").is_dir()
        assert not [mark for mark in marks if (partial.path / mark).exists()]


def test_the_last_epochs_loss_is_a_mean_over_its_steps(place, tmp_path):
    record = train(recipe(place, "training_loss", search=None), tmp_path / "out").record
    losses = [loss for _, loss in record["losses"]]
    assert [step for step, _ in record["losses"]] == [1, 2, 3, 4, 5, 6]
    assert record["final_epoch_loss"] == pytest.approx(sum(losses[3:]) / 3)


def test_a_grid_that_diverges(place, tmp_path):
    content = recipe(place, "training_loss")
    content["search"] = {"learning_rate": [3e38]}
    content["training"] = {**content["training"], "clip_norm": 0.0}
    with pytest.raises(carrick.CarrickError, match="no point of the grid has a finite loss"):
        train(content, tmp_path / "out")


def test_a_training_that_diverges_says_so(place, tmp_path):
    training = {"steps": 4, "batch_size": 4, "learning_rate": 3e38, "clip_norm": 0.0, "keep": "last"}
    report = train(recipe(place, "training_loss", search=None, training=training), tmp_path / "out")
    assert None in [loss for _, loss in report.record["losses"]]
    assert "diverged" in report.notes[-1]
