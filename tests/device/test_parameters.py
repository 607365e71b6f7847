"""A live merge that is asked as `carrick.adapters.merge` is: parameters under the names of `carrick methods`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from carrick.errors import ConfigError
from carrick.torch import add_merged_adapter

peft = pytest.importorskip("peft")

PATH = "base_model.model.0"


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    made = peft.get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(12, 10)),
        peft.LoraConfig(r=2, target_modules=["0"]),
        adapter_name="en",
    )
    made.add_adapter("de", peft.LoraConfig(r=3, lora_alpha=5, target_modules=["0"]))
    for name, parameter in made.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter)
    return made


def merged(model: Any, name: str, **request: Any) -> torch.Tensor:
    add_merged_adapter(model, ["en", "de"], name, **request)
    return model.get_submodule(PATH).get_delta_weight(name).detach().double()


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        (
            {"lambda_": 0.6, "variant": "paper", "aggregate": "sum"},
            {"lambda": 0.6, "variant": "paper", "aggregate": "sum"},
        ),
        ({"tolerance": 0.4}, {"rank_tolerance": 0.4}),
        ({"tolerance": 0.0, "absolute_tolerance": 20.0}, {"rank_tolerance": 20.0, "rank_cut": "absolute"}),
        ({"direction": "rows", "normalize": True}, {"direction": "rows", "normalize": True}),
    ],
)
def test_they_are_the_options(model: Any, options: dict[str, Any], parameters: dict[str, Any]) -> None:
    plain = merged(model, "plain", density=0.5)
    want = merged(model, "direct", density=0.5, **options)
    got = merged(model, "named", parameters={"density": 0.5, **parameters})
    assert torch.equal(got, want)
    assert not torch.allclose(plain, want)


def test_linear_is_the_sum_that_merge_makes(model: Any) -> None:
    layer = model.get_submodule(PATH)
    want = 0.5 * (2 * layer.get_delta_weight("en") - 3 * layer.get_delta_weight("de")).detach().double()
    got = merged(model, "sum", method="linear", weights=[2, -3], parameters={"lambda": 0.5})
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert layer.r["sum"] == 5


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        ({"density": 0.5, "parameters": {"density": 0.5}}, "`density` is given twice"),
        ({"density": 0.5, "lambda_": 1, "parameters": {"lambda": 0.5}}, "`lambda` is given twice"),
        (
            {"density": 0.5, "parameters": {"rank_cut": "half"}},
            "`rank_cut` is 'half'; it is one of relative, absolute",
        ),
        ({"density": 0.5, "parameters": "lambda"}, "`parameters` is 'lambda'; give a mapping"),
        ({"density": 0.5, "parameters": {"agregate": "sum"}}, "did you mean `aggregate`"),
    ],
)
def test_what_is_refused(model: Any, request_: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        add_merged_adapter(model, ["en", "de"], "both", **request_)
    assert "both" not in model.peft_config
