"""The bytes of a merged adapter depend on nothing but the inputs; decompositions keep a tolerance across processors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.merging import FILE, Lora, distance, lora, meaning
from carrick import _core
from carrick.adapters import merge
from oracles.dtypes import NUMPY, narrow
from oracles.files import read_file
from safety.digests import digest

MIB = 1 << 20
SHAPES = {
    "model.layers.0.q_proj": (577, 1031),
    "model.layers.0.down_proj": (257, 2051),
    "model.layers.1.q_proj": (577, 1031),
    "model.layers.2.q_proj": (64, 96),
    "lm_head": (1999, 333),
}
METHODS = {
    "cat": {"method": "cat"},
    "factors": {"method": "ties", "density": 0.3, "space": "factors"},
    "random factors": {"method": "dare_ties", "density": 0.3, "space": "factors", "seed": 9},
    "swap": {"method": "layer_swap"},
    "sum to rank": {"method": "cat", "rank": 9},
    "knots": {"method": "knots_ties", "density": 0.3},
    "knots rows": {
        "method": "knots_dare_ties",
        "density": 0.4,
        "parameters": {"direction": "rows"},
        "seed": 3,
    },
    "knots to rank": {"method": "knots_ties", "density": 0.3, "rank": 11},
    "ties to rank": {"method": "ties", "density": 0.3, "rank": 11},
}
EXACT = ("cat", "factors", "random factors", "swap")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two adapters of the same ranks, of odd sizes."""
    root = tmp_path_factory.mktemp("adapters")
    return [
        lora(seed, SHAPES, rank=13, alpha=5, rslora=seed == 1).write(root / str(seed)) for seed in range(2)
    ]


@pytest.fixture(scope="module")
def reference(folders, tmp_path_factory):
    root = tmp_path_factory.mktemp("reference")
    for name, options in METHODS.items():
        merge(folders, root / name, threads=1, **options)
    return {name: root / name for name in METHODS}


@pytest.mark.parametrize(
    "execution", [{"threads": 2}, {"threads": 4}, {"threads": 2, "memory": 64 * MIB}], ids=str
)
@pytest.mark.parametrize("name", METHODS)
def test_threads_and_memory(name, execution, folders, reference, tmp_path):
    merge(folders, tmp_path / "out", **METHODS[name], **execution)
    assert digest(tmp_path / "out") == digest(reference[name])
    for file in ("adapter_config.json", "carrick.json"):
        assert (tmp_path / "out" / file).read_bytes() == (reference[name] / file).read_bytes()


SCRIPT = """
import json, sys
from pathlib import Path
from carrick import _core
from carrick.adapters import merge
folders, out, methods = json.loads(sys.argv[1])
for name, options in methods.items():
    merge(folders, Path(out, name), **options)
print(_core.simd_level())
"""


@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_instruction_sets(level, folders, reference, tmp_path):
    if level not in _core.simd_levels():
        pytest.skip(f"this processor has no {level}")
    request = json.dumps([[str(folder) for folder in folders], str(tmp_path), METHODS])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, request],
        env=os.environ | {"CARRICK_SIMD": level},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == level
    for name in METHODS:
        if name in EXACT:
            assert digest(tmp_path / name) == digest(reference[name]), name
        else:
            got, want = (
                meaning(read_file(folder / FILE), json.loads((folder / "adapter_config.json").read_text()))
                for folder in (tmp_path / name, reference[name])
            )
            assert distance(got, want) <= (1e-6 if "to rank" not in name else 1e-5), name


def test_the_place_of_the_inputs_is_not_in_the_output(folders, reference, tmp_path):
    """The same adapters elsewhere: the same bytes, the record among them."""
    copies = []
    for folder in folders:
        copy = tmp_path / "elsewhere" / folder.name
        copy.mkdir(parents=True)
        for file in folder.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        copies.append(copy)
    merge(copies, tmp_path / "out", **METHODS["knots"])
    for file in reference["knots"].iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    text = (tmp_path / "out" / "carrick.json").read_text()
    assert str(tmp_path) not in text
    assert str(Path(folders[0]).parent) not in text


def test_seeds_matter_to_masks_alone(folders, tmp_path):
    digests = {}
    for name in ("random factors", "factors"):
        for seed in (1, 2):
            merge(folders, tmp_path / f"{name}{seed}", **{**METHODS[name], "seed": seed})
            digests[name, seed] = digest(tmp_path / f"{name}{seed}")
    assert digests["random factors", 1] != digests["random factors", 2]
    assert digests["factors", 1] == digests["factors", 2]


def test_in_memory_and_on_disk_are_the_same(folders, reference):
    adapters = []
    for folder in folders:
        config = json.loads((folder / "adapter_config.json").read_text())
        adapters.append((read_file(folder / FILE), config))
    report = merge(adapters, **METHODS["knots"])
    want = read_file(reference["knots"] / FILE)
    assert {key: tensor.tobytes() for key, tensor in report.state_dict.items()} == {
        k: t.tobytes() for k, t in want.items()
    }
    assert report.config == json.loads((reference["knots"] / "adapter_config.json").read_text())


def test_the_last_rounding_is_to_the_type_asked_for(folders, tmp_path):
    """`--dtype` rounds what would have been written in float32, once."""
    options = {"precision": "float64", "method": "knots_ties", "density": 0.3}
    for dtype in ("float64", "bfloat16", "float16"):
        merge(folders, tmp_path / dtype, dtype=dtype, **options)
    wide, *others = (read_file(tmp_path / name / FILE) for name in ("float64", "bfloat16", "float16"))
    for narrowed, dtype in zip(others, ("BF16", "F16"), strict=True):
        for key, tensor in wide.items():
            assert narrowed[key].tobytes() == narrow(tensor, NUMPY[dtype]).tobytes(), key


def test_torch_tensors_are_adapters_too():
    torch = pytest.importorskip("torch")
    one = lora(0)
    tensors, config = one.state
    of_torch = {key: torch.from_numpy(tensor).to(torch.bfloat16) for key, tensor in tensors.items()}
    report = merge([(of_torch, config)])
    want = Lora(
        {
            p: tuple(torch.from_numpy(f).to(torch.bfloat16).float().numpy() for f in pair)
            for p, pair in one.factors.items()
        }
    )
    assert distance(meaning(report.state_dict, report.config), want.updates()) <= 1e-7


LONG = [
    {"method": "knots_ties", "density": 0.5, "precision": "float64"},
    {"method": "ties", "density": 0.5, "rank": 4},
]


@pytest.mark.parametrize("options", LONG, ids=str)
def test_an_interrupt_leaves_nothing(options, tmp_path):
    """As Ctrl-C does after the first report, a tenth of a second in."""
    path = "model.layers.{}.q_proj"
    one = lora(0, {path.format(0): (2048, 2048)}, rank=64)
    big = Lora({path.format(layer): one.factors[path.format(0)] for layer in range(48)})
    folders = [big.write(tmp_path / name) for name in ("one", "other")]

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(folders, tmp_path / "out", progress=stop, threads=1, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_an_interrupt_at_the_end_leaves_nothing(tmp_path, monkeypatch):
    """Merges of adapters start anew: nothing would ever use what is kept."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("carrick.adapters.merging.run.write_record", stop)
    folders = [lora(seed).write(tmp_path / str(seed)) for seed in (0, 1)]
    with pytest.raises(KeyboardInterrupt) as caught:
        merge(folders, tmp_path / "out")
    assert not getattr(caught.value, "__notes__", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
