"""The plain methods inside a live PeftModel, cut to a rank: masks and trims go by the names of the weights."""

from __future__ import annotations

from typing import Any

import pytest

from carrick.torch import add_merged_adapter
from device.oracle import relative_error
from device.test_peft_model import MODELS, NAMES, as_dense, layers_of, merged_deltas, with_adapters
from oracles import updates

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


@MODELS
@pytest.mark.parametrize(
    ("method", "options"),
    [("ties", {"density": 0.4, "trim_scope": "model"}), ("dare_ties", {"density": 0.4, "seed": 6})],
)
def test_a_plain_method_to_a_rank_is_the_dense_oracle(
    base: Any, configs: list[Any], method: str, options: dict[str, Any]
) -> None:
    model = with_adapters(base, configs)
    own = [
        {
            f"{path}.weight": term.delta
            for path, layer in layers_of(model).items()
            if (term := as_dense(layer, name)) is not None
        }
        for name in NAMES
    ]
    want = updates.merge(method, own, **options)
    add_merged_adapter(model, NAMES, method=method, rank=999, **options)
    got = merged_deltas(model, "merged")
    assert len(got) == len(want)
    for path, matrix in got.items():
        assert relative_error(matrix, want[f"{path}.weight"]) < 3e-6, path
