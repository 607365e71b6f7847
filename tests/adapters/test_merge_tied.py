"""Adapters that change head and embeddings as one (`ensure_weight_tying`), merged with others that do not."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adapters.loading import loaded, model_of, updates_of
from adapters.zoo import Case, case, llama_tied, peft, randomise, tensors, torch
from carrick.adapters import merge
from oracles.files import write_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HEAD, EMBEDDINGS = "lm_head", "embed_tokens"
TIED = {"ensure_weight_tying": True}
CASES = {
    "tied": case(llama_tied, "q_proj", EMBEDDINGS, **TIED),
    "tied, wide": case(llama_tied, "q_proj", EMBEDDINGS, r=20, **TIED),
    "both": case(llama_tied, "q_proj", EMBEDDINGS, HEAD, r=3),
    "embeddings": case(llama_tied, "q_proj", EMBEDDINGS, r=3),
    "head": case(llama_tied, "q_proj", HEAD, r=3),
    "neither": case(llama_tied, "q_proj", **TIED),
    "whole, tied": case(llama_tied, "q_proj", modules_to_save=[EMBEDDINGS], **TIED),
    "whole head, tied": case(llama_tied, "q_proj", modules_to_save=[HEAD], **TIED),
    "whole embeddings": case(llama_tied, "q_proj", modules_to_save=[EMBEDDINGS]),
    "whole head": case(llama_tied, "q_proj", modules_to_save=[HEAD]),
}
PLAIN = case(llama_tied, "q_proj")


@dataclass
class Effect:
    """The rows that a model looks up, and the matrix that makes its logits."""

    embeddings: NDArray[np.float64]
    head: NDArray[np.float64]


def effect(model: Any) -> Effect:
    """What PEFT computes, which is what was trained: `merge_and_unload` adds to tied weights twice."""
    inner = model.base_model.model if isinstance(model, peft.PeftModel) else model
    with torch.no_grad():
        rows = inner.model.embed_tokens(torch.arange(inner.config.vocab_size)).numpy()
        head = inner.lm_head(torch.eye(inner.config.hidden_size, dtype=torch.float64)).numpy().T
    return Effect(rows.copy(), head.copy())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An adapter of a case on the one base, each made once; two of one name differ by their number."""
    root = tmp_path_factory.mktemp("tied")
    known: dict[tuple[str, int], Path] = {}

    def get(name: str, number: int = 0) -> Path:
        key = (name, number)
        if key not in known:
            known[key] = root / f"{len(known)}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                options = {"r": 4, **CASES[name].options}
                wrapped = peft.get_peft_model(model_of(PLAIN), peft.LoraConfig(**options))
                torch.manual_seed(10 + len(known))
                randomise(wrapped)
                wrapped.save_pretrained(known[key])
        return known[key]

    return get


def check(out: Path, wanted: list[Path]) -> dict[str, Any]:
    """PEFT loads the result, and it computes θ₀ + Σ (θᵢ − θ₀) of what PEFT computes with each `wanted` alone."""
    chosen = Case(llama_tied)
    start = effect(model_of(chosen))
    alone = [effect(loaded(chosen, folder)) for folder in wanted]
    got = effect(loaded(chosen, out))
    for part in ("embeddings", "head"):
        base = getattr(start, part)
        want = base + sum(getattr(one, part) - base for one in alone)
        np.testing.assert_allclose(getattr(got, part), want, atol=1e-9, err_msg=part)
    config: dict[str, Any] = json.loads((out / "adapter_config.json").read_text())
    return config


def of(made: Any, names: tuple[str, ...]) -> list[Path]:
    return [made(name, number) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("names", "stays"),
    [
        (("tied", "tied"), True),
        (("neither", "tied"), True),
        (("tied", "both"), False),
        (("tied", "embeddings"), False),
        (("tied", "head"), False),
        (("head", "tied"), False),
        (("neither", "both"), False),
    ],
)
def test_sums_of_factors(names: tuple[str, ...], stays: bool, made: Any, tmp_path: Path) -> None:
    folders = of(made, names)
    report = merge(folders, tmp_path / "out")
    config = check(tmp_path / "out", folders)
    assert config["ensure_weight_tying"] is stays
    said = any("each by itself" in note for note in report.notes)
    assert said is ("tied" in names and not stays)


def test_weights_that_differ(made: Any, tmp_path: Path) -> None:
    """A filter that gives head and embeddings unlike weights leaves them no longer one."""
    folders = of(made, ("tied", "tied"))
    weights = [{"filter": "lm_head", "value": 0.5}, {"value": 2}]
    merge(folders, tmp_path / "out", parameters={"weight": weights})
    start = effect(model_of(PLAIN))
    alone = [effect(loaded(PLAIN, folder)) for folder in folders]
    got = effect(loaded(PLAIN, tmp_path / "out"))
    for part, weight in (("embeddings", 2), ("head", 0.5)):
        base = getattr(start, part)
        want = base + weight * sum(getattr(one, part) - base for one in alone)
        np.testing.assert_allclose(getattr(got, part), want, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "knots_ties", "density": 0.5},
        {"method": "ties", "density": 0.5, "rank": 5},
        {"rank": 5},
        {"method": "linear", "space": "factors"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_what_is_not_one_sum_is_loaded_as_it_is_stored(
    options: dict[str, Any], made: Any, tmp_path: Path
) -> None:
    first = "tied" if "space" in options else "tied, wide"
    merge(of(made, (first, "tied")), tmp_path / "out", **options)
    got, start = effect(loaded(PLAIN, tmp_path / "out")), effect(model_of(PLAIN))
    stored = updates_of(tmp_path / "out")
    np.testing.assert_allclose(got.head - start.head, stored[HEAD], atol=1e-6)
    updates = stored[f"model.{EMBEDDINGS}"].T
    np.testing.assert_allclose(got.embeddings - start.embeddings, updates, atol=1e-6)


WHOLE = [
    (("whole, tied", "whole, tied"), True),
    (("whole, tied", "neither"), True),
    (("whole, tied", "whole embeddings"), False),
    (("whole embeddings", "whole, tied"), False),
    (("whole, tied", "whole head"), False),
    (("whole head, tied", "whole head"), False),
    (("whole embeddings", "whole head"), False),
    (("whole embeddings", "head"), False),
]


@pytest.mark.parametrize(("names", "stays"), WHOLE)
def test_modules_saved_whole(names: tuple[str, ...], stays: bool, made: Any, tmp_path: Path) -> None:
    base = {name: np.ascontiguousarray(t) for name, t in tensors(model_of(PLAIN)).items()}
    config = {"model_type": "llama", "tie_word_embeddings": True}
    write_model(tmp_path / "base", base, config=config)
    folders = of(made, names)
    merge(folders, tmp_path / "out", modules_to_save="merge", base=tmp_path / "base")
    assert check(tmp_path / "out", folders)["ensure_weight_tying"] is stays


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("names", [names for names, _ in WHOLE[:1] + WHOLE[2:7]])
def test_those_of_one_adapter(names: tuple[str, ...], keep: int, made: Any, tmp_path: Path) -> None:
    folders = of(made, names)
    merge(folders, tmp_path / "out", modules_to_save=str(keep + 1))
    config = check(tmp_path / "out", [folders[keep]])
    assert config["ensure_weight_tying"] is ("tied" in names[keep])
