"""What a message suggests where nothing is there: the nearest name, and only what helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import huggingface_hub
import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def here(tmp_path, models, monkeypatch):
    """The folder of the models, without a cache of the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(models.root)
    return models.root


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", [["inspect"], ["compare", "base"], ["adapters", "inspect"]])
def test_the_suggestion_comes_last(carrick, command):
    answer = carrick(*command, "bsae")
    assert answer.code == 2
    assert "bsae: neither a local folder nor in the Hugging Face cache; " in answer.err
    assert answer.err.endswith("; did you mean `base`?\n")


@pytest.mark.parametrize("command", [["inspect"], ["compare", "base"], ["adapters", "inspect"]])
def test_what_is_not_in_the_cache_is_fetched_with_download(carrick, here, monkeypatch, command):
    asked = []

    def fetch(name, **options):
        asked.append((name, options["local_files_only"]))
        return str(here / "math")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    carrick(*command, "org/name", "--download")
    carrick(*command, "org/name")
    assert asked == [("org/name", False), ("org/name", True)]


def adapter(here: Path) -> Path:
    folder = here / "en"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("command", [["inspect"], ["compare", "base"]])
def test_an_adapter_is_looked_at_by_a_command_that_can(carrick, here, command):
    adapter(here)
    assert "`carrick adapters inspect` shows it" in carrick(*command, "en").err
    said = carrick(*command, "base+en:0.5+de").err
    assert "names a model with adapters on it" in said
    assert "`carrick adapters apply base en:0.5 de -o OUT`" in said


@pytest.mark.parametrize(
    ("name", "hint"),
    [("nothere.yml", ""), ("none.json", ""), ("confg.yml", "; did you mean `config.yml`?")],
)
def test_an_ending_makes_no_name_alike(carrick, models, name, hint):
    models.config("nr.yml")
    models.config("config.yml")
    models.config("plan.json")
    said = carrick("plan", models.root / name).err
    assert said == f"error: {models.root / name}: there is no such file{hint}\n"


def test_a_size_that_is_no_number_has_no_nearest_one(carrick, models, out):
    said = carrick("merge", models.config(), out, "--memory", "lots").err
    assert said == "error: memory 'lots' is no size: write it like 512MiB, 5GB or a number of bytes\n"
    assert carrick("merge", models.config(), out, "--memory", "5G").err.endswith(
        "did you mean 5GB or 5GiB?\n"
    )
