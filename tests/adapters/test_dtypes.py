"""Every command on adapters takes element types by the names that configurations take."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from adapters.handmade import HIDDEN, Q, base_tensors, write_base
from adapters.merging import lora
from carrick.cli import main
from oracles.files import read_file

NAMES = {
    "bf16": ml_dtypes.bfloat16,
    "BF16": ml_dtypes.bfloat16,
    "torch.bfloat16": ml_dtypes.bfloat16,
    "fp16": np.float16,
    "half": np.float16,
    "f64": np.float64,
    "double": np.float64,
}


@pytest.fixture
def inputs(tmp_path):
    base = write_base(tmp_path / "base", base_tensors())
    tuned = write_base(tmp_path / "tuned", base_tensors(seed=1))
    shapes = {Q.format(layer): (HIDDEN, HIDDEN) for layer in range(2)}
    return base, tuned, lora(0, shapes).write(tmp_path / "en")


@pytest.mark.parametrize("name", NAMES)
def test_spellings(name, inputs, tmp_path):
    base, tuned, adapter = inputs
    commands = {
        "merge": [adapter],
        "apply": [base, adapter],
        "extract": [base, tuned, "-r", "2", "--modules", "q_proj"],
    }
    for command, words in commands.items():
        out = tmp_path / command
        assert main(["adapters", command, *map(str, words), "-o", str(out), "--dtype", name]) == 0
        (file,) = out.glob("*.safetensors")
        found = {key: tensor.dtype for key, tensor in read_file(file).items() if "q_proj" in key}
        assert found
        assert set(found.values()) == {np.dtype(NAMES[name])}, command
