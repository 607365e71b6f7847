"""Element types as they are usually spelt: one table for configurations, commands and the schema."""

import pytest
from jsonschema import Draft202012Validator

from carrick.config import load
from carrick.config.schema import json_schema
from carrick.errors import ConfigError

CONFIG = {"merge_method": "linear", "models": [{"model": "A", "parameters": {"weight": 1}}]}
SPELT = {
    "F64": ["float64", "F64", "f64", "fp64", "double", "torch.float64"],
    "F32": ["float32", "F32", "f32", "fp32", "FP32", "float", "torch.float32"],
    "F16": ["float16", "F16", "f16", "fp16", "FP16", "half", "torch.float16"],
    "BF16": ["bfloat16", "BF16", "bf16", "torch.bfloat16"],
    "F8_E4M3": ["float8_e4m3fn", "F8_E4M3", "fp8_e4m3"],
    "F8_E5M2": ["float8_e5m2", "F8_E5M2", "fp8_e5m2"],
}


@pytest.mark.parametrize("key", ["dtype", "out_dtype"])
@pytest.mark.parametrize(
    ("stored", "name"), [(stored, name) for stored, names in SPELT.items() for name in names]
)
def test_spellings(key, stored, name):
    (document,) = load(CONFIG | {key: name})
    assert document.output_dtype == stored
    assert not list(Draft202012Validator(json_schema()).iter_errors(CONFIG | {key: name}))


@pytest.mark.parametrize(
    ("name", "hint"), [("bf61", "did you mean `bf16`"), ("int8", "float64, float32, float16")]
)
def test_what_is_no_type(name, hint):
    with pytest.raises(ConfigError, match=hint):
        load(CONFIG | {"dtype": name})
    assert list(Draft202012Validator(json_schema()).iter_errors(CONFIG | {"dtype": name}))
