"""What cannot be merged: one message that says why, exit code 2, nothing left behind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adapters.merging import FILE, SHAPES, Lora, Q, lora
from carrick.cli import main
from oracles.files import read_file, write_file, write_model

FIRST = Q.format(0)
KEY = f"base_model.model.{FIRST}"
TIES = ("--method", "knots_ties", "--density", "0.5")


@pytest.fixture
def pair(tmp_path):
    return [lora(seed).write(tmp_path / name) for seed, name in enumerate(("first", "second"))]


def refused(tmp_path, capfd, arguments, words, command=("adapters", "merge")):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    out = tmp_path / "out" / "merged"
    code = main([*command, *map(str, arguments), "-o", str(out)])
    said, err = capfd.readouterr()
    assert code == 2, err
    assert said == ""
    assert len([line for line in err.strip().splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in err
    flat = " ".join(err.split())
    for word in words:
        assert word in flat, err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def spoil(folder, change):
    tensors = {key: tensor.copy() for key, tensor in read_file(folder / FILE).items()}
    change(tensors)
    write_file(folder / FILE, tensors)


def configure(folder, **changes):
    path = folder / "adapter_config.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "REMOVE"}))


def rank_mismatch(folder):
    spoil(folder, lambda t: t.update({f"{KEY}.lora_B.weight": np.ones((21, 2), np.float32)}))
    return [f"{KEY}.lora_B.weight", "has rank 2", "has rank 3"]


def another_rank_than_it_says(folder):
    configure(folder, rank_pattern={}, r=5)
    return ["has rank 3", "`r` of adapter_config.json says 5"]


def a_without_b(folder):
    spoil(folder, lambda t: t.pop(f"{KEY}.lora_B.weight"))
    return [f"{KEY}.lora_A.weight", f"the factor B of {FIRST} is not"]


def b_without_a(folder):
    spoil(folder, lambda t: t.pop(f"{KEY}.lora_A.weight"))
    return [f"{KEY}.lora_B.weight", f"the factor A of {FIRST} is not"]


def alpha_missing(folder):
    configure(folder, lora_alpha="REMOVE")
    return ["adapter_config.json", "`lora_alpha` is missing"]


def other_shape(folder):
    lora(1, {**SHAPES, FIRST: (21, 16)}).write(folder)
    return [
        f"{FIRST}: is a linear of 21 × 17 in",
        "first and a linear of 21 × 16 in",
        "second",
        "of one base",
    ]


def other_kind(folder):
    one = lora(1)
    a, b = one.factors.pop(FIRST)
    one.more = {f"{FIRST}.lora_A.weight": a.reshape(3, 17, 1), f"{FIRST}.lora_B.weight": b.reshape(21, 3, 1)}
    one.settings = {"r": 3, "lora_alpha": 3}
    one.write(folder)
    return [f"{FIRST}: is a linear of 21 × 17", "a conv of 21 × 17"]


def truncated(folder):
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-10])
    return [str(folder / FILE)]


def cut_header(folder):
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:50])
    return [str(folder / FILE)]


def empty(folder):
    for file in folder.iterdir():
        file.unlink()
    return [str(folder), "is empty"]


def without_configuration(folder):
    (folder / "adapter_config.json").unlink()
    return [str(folder), "adapter_config.json"]


def without_modules(folder):
    Lora({}, settings={"target_modules": ["q"]}).write(folder)
    return [str(folder / FILE)]


def pickled(folder):
    (folder / FILE).rename(folder / "adapter_model.bin")
    return ["adapter_model.bin", "pickle"]


def pissa(folder):
    configure(folder, init_lora_weights="pissa")
    return ["adapter_config.json", "PiSSA"]


def another_method(folder):
    configure(folder, peft_type="IA3")
    return ["`peft_type` is 'IA3'"]


BROKEN = [
    rank_mismatch, another_rank_than_it_says, a_without_b, b_without_a, alpha_missing, other_shape, other_kind,
    truncated, cut_header, empty, without_configuration, without_modules, pickled, pissa, another_method,
]  # fmt: skip


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda function: function.__name__)
def test_bad_adapters(break_it, pair, tmp_path, capfd):
    words = break_it(pair[1])
    refused(tmp_path, capfd, pair, words)


METHODS = {
    "cat": (),
    "cat to a rank": ("--rank", "2"),
    "knots": TIES,
    "knots to a rank": (*TIES, "--rank", "2"),
    "ties to a rank": ("--method", "ties", "--density", "0.5", "--rank", "2"),
    "factors": ("--method", "ties", "--density", "0.5", "--space", "factors"),
}


@pytest.mark.parametrize("letter", ["A", "B"])
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_numbers_that_are_none(method, value, letter, *, pair, tmp_path, capfd):
    """The error names the adapter's file and the tensor, whichever way the method takes."""
    key = f"{KEY}.lora_{letter}.weight"
    spoil(pair[1], lambda t: t[key].__setitem__((0, 1), value))
    refused(tmp_path, capfd, [*pair, *METHODS[method]], [str(pair[1] / FILE), repr(key), "NaN or infinities"])


@pytest.mark.parametrize("method", [(), ("--method", "ties", "--density", "0.5")], ids=str)
def test_numbers_that_are_none_into_the_base(method, pair, tmp_path, capfd):
    base = write_model(
        tmp_path / "base", {f"{path}.weight": np.ones(s, np.float32) for path, s in SHAPES.items()}
    )
    spoil(pair[1], lambda t: t[f"{KEY}.lora_B.weight"].__setitem__((0, 1), np.nan))
    words = [str(pair[1] / FILE), f"{KEY}.lora_B.weight", "NaN or infinities; train the adapter again"]
    refused(tmp_path, capfd, [*pair, *method, "--base", base, "--dense"], words)


def test_numbers_that_are_none_in_the_base(tmp_path, capfd):
    """No adapter is blamed for them."""
    folders = []
    for seed in range(2):
        one = lora(seed)
        one.settings["modules_to_save"] = ["lm_head"]
        one.more["lm_head.weight"] = np.ones((5, 17), np.float32)
        folders.append(one.write(tmp_path / str(seed)))
    base = write_model(tmp_path / "base", {"lm_head.weight": np.full((5, 17), np.nan, np.float32)})
    words = ["base_model.model.lm_head.weight", "NaN", "give a base without them"]
    refused(tmp_path, capfd, [*folders, "--modules-to-save", "merge", "--base", base], words)


WRONG = {
    "unknown method": (("--method", "knots_tie"), ["`knots_tie` is not a merge method", "`knots_ties`"]),
    "method of checkpoints": (("--method", "slerp"), ["`slerp` merges whole checkpoints", "cat"]),
    "unknown parameter": ((*TIES, "-p", "lamda=0.5"), ["lamda", "`lambda`"]),
    "a parameter of another method": (("-p", "density=0.5", "-p", "aggregate=sum"), ["aggregate"]),
    "parameter without a value": ((*TIES, "-p", "lambda"), ["-p NAME=VALUE"]),
    "parameter twice": ((*TIES, "-p", "lambda=1", "-p", "lambda=2"), ["lambda is given twice"]),
    "choice": ((*TIES, "-p", "direction=row"), ["direction", "row", "columns"]),
    "variant": ((*TIES, "-p", "variant=papers"), ["papers", "paper"]),
    "density above 1": (("--method", "knots_ties", "--density", "1.5"), ["density", "1.5"]),
    "density below 0": (("--method", "ties", "--density", "-0.1", "--rank", "2"), ["density", "-0.1"]),
    "no density": (("--method", "knots_ties"), ["`knots_ties` needs a density", "--density"]),
    "too few weights": (("--weights", "1"), ["1 weights for 2 adapters"]),
    "too many weights": (("--weights", "1,2,3"), ["3 weights for 2 adapters"]),
    "weights that are none": (("--weights", "1,a"), ["--weights is '1,a'", "1,0.5,1"]),
    "infinite weights": (("--weights", "1,inf"), ["weight", "inf"]),
    "rank 0": (("--rank", "0"), ["`rank` is `0`"]),
    "negative rank": (("--rank", "-1"), ["`rank` is `-1`"]),
    "energy 2": (("--energy", "2"), ["`energy` is `2.0`", "up to 1"]),
    "energy 0": (("--energy", "0"), ["`energy` is `0.0`"]),
    "rank and energy": (("--rank", "2", "--energy", "0.5"), ["`rank` and `energy`"]),
    "no rank": (("--method", "ties", "--density", "0.5"), ["not of low rank", "--rank R", "--base BASE --dense"]),
    "dense without a base": (("--dense",), ["--base BASE"]),
    "dtype": (("--dtype", "bfloat"), ["bfloat", "bfloat16"]),
    "dtype, abbreviated": (("--dtype", "bf61"), ["`bf61`", "did you mean `bf16`"]),
    "dtype of integers": (("--dtype", "int8"), ["int8"]),
    "threads": (("--threads", "0"), ["threads is 0"]),
    "memory": (("--memory", "1kB"), ["memory"]),
    "memory in words": (("--memory", "much"), ["much"]),
    "a parameter of checkpoints": (
        (*TIES, "-p", "outside_layers=basis"), ["`outside_layers` belongs to a merge of checkpoints", "remove it"]
    ),
    "tolerance": ((*TIES, "-p", "rank_tolerance=-1"), ["rank_tolerance", "-1"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests(name, pair, tmp_path, capfd):
    words, expected = WRONG[name]
    refused(tmp_path, capfd, [*pair, *words], expected)


def test_what_is_not_there(pair, tmp_path, capfd):
    refused(tmp_path, capfd, [pair[0], f"{pair[1]}s"], ["seconds", "no such file or folder", "did you mean"])
    refused(tmp_path, capfd, ["nobody/nothing"], ["nobody/nothing"])


def test_a_base_where_an_adapter_belongs(pair, tmp_path, capfd):
    base = tmp_path / "base"
    base.mkdir()
    write_file(base / "model.safetensors", {f"{FIRST}.weight": np.ones((21, 17), np.float32)})
    (base / "config.json").write_text('{"model_type": "llama"}')
    refused(tmp_path, capfd, [base, pair[0]], [str(base), "adapter_config.json", "a whole model"])


def test_an_output_that_exists_needs_force(pair, tmp_path, capfd):
    words = ["adapters", "merge", *map(str, pair), "-o", str(tmp_path / "out")]
    assert main(words) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    capfd.readouterr()
    assert main([*words, "--weights", "1,2"]) == 2
    assert "--force" in capfd.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert main([*words, "--weights", "1,2", "--force"]) == 0
    assert (tmp_path / "out" / FILE).read_bytes() != before[FILE]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "out", "second"]


def test_a_failure_leaves_what_is_there(pair, tmp_path, capfd):
    """With --force, too: the old adapter goes only when the new one is whole."""
    words = ["adapters", "merge", *map(str, pair), "-o", str(tmp_path / "out"), *TIES]
    assert main(words) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    spoil(pair[1], lambda t: t[f"{KEY}.lora_A.weight"].__setitem__((0, 0), np.nan))
    capfd.readouterr()
    assert main([*words, "--force"]) == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "out", "second"]


def test_a_folder_that_is_no_adapter_is_not_replaced(pair, tmp_path, capfd):
    (tmp_path / "out" / "merged").mkdir(parents=True)
    (tmp_path / "out" / "merged" / "thesis.tex").write_text("years of work")
    refused(tmp_path, capfd, [*pair, "--force"], [str(tmp_path / "out" / "merged")])


def test_an_input_as_the_output(pair, tmp_path, capfd):
    """With --force the result takes an input's place, once it is whole."""
    want = ["adapters", "merge", *map(str, pair), "-o", str(tmp_path / "out")]
    assert main(want) == 0
    assert main(["adapters", "merge", *map(str, pair), "-o", str(pair[0]), "--force"]) == 0
    capfd.readouterr()
    assert (pair[0] / FILE).read_bytes() == (tmp_path / "out" / FILE).read_bytes()


def test_a_base_or_a_folder_of_inputs_is_no_output(pair, tmp_path, capfd):
    """With --force, too: of what is read only an adapter that is itself the output may go."""
    base = write_model(tmp_path / "base", {f"{FIRST}.weight": np.ones((21, 17), np.float32)})
    inner = lora(2).write(pair[0] / "inner")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def stays(out, *words):
        command = ["adapters", "merge", *map(str, words), "-o", str(out), "--force"]
        assert main(command) == 2
        err = capfd.readouterr().err
        assert f"error: {out}: " in err, err
        assert "choose a" in err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    stays(base, *pair, "--base", base)
    stays(base, *pair, "--base", base / "model.safetensors")
    stays(pair[0], pair[1], inner, "--base", f"{base}+{pair[0]}")
    stays(pair[0], pair[0], inner)
    stays(inner, pair[0], inner)
    stays(pair[0] / "merged", *pair)
    (tmp_path / "config.json").write_text("{}")
    before[tmp_path / "config.json"] = b"{}"
    stays(tmp_path, *pair)


def test_the_base_that_adapters_name_is_no_output(pair, tmp_path, capfd, monkeypatch):
    """With --force, too: a merge reads nothing of it, but the adapters need it, and the merged one as well."""
    weights = {f"{path}.weight": np.ones(shape, np.float32) for path, shape in SHAPES.items()}
    base, other = (write_model(tmp_path / name, weights) for name in ("models/base", "other"))
    configure(pair[1], base_model_name_or_path="models/base")
    (tmp_path / "models" / "config.json").write_text("{}")
    (tmp_path / "c.yml").write_text(
        "merge_method: linear\nmodels: [{model: first}, {model: second}]\nparameters: {weight: 1}\n"
    )
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for command in (
        ["adapters", "merge", *map(str, pair), "-o"],
        ["adapters", "apply", str(other), str(pair[1]), "-o"],
        ["merge", "c.yml"],
    ):
        for out in (base, base.parent):
            assert main([*command, str(out), "--force"]) == 2
            err = capfd.readouterr().err
            assert f"error: {out}: " in err, err
            assert "choose another folder" in err
            assert "(`base_model_name_or_path` is models/base)" in err or out == base.parent
            assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert main(["adapters", "merge", *map(str, pair), "-o", str(base / "merged")]) == 0
    (tmp_path / "empty").mkdir()  # bears the name of a Hub id by chance, and holds nothing
    configure(pair[1], base_model_name_or_path="empty")
    assert main(["adapters", "merge", *map(str, pair), "-o", str(tmp_path / "empty")]) == 0


def test_different_bases_are_noted(tmp_path, capfd):
    folders = []
    for seed, base in enumerate(("org/Llama-1B", "org/Qwen-1B")):
        one = lora(seed)
        one.settings["base_model_name_or_path"] = base
        folders.append(one.write(tmp_path / str(seed)))
    assert main(["adapters", "merge", *map(str, folders), "-o", str(tmp_path / "out")]) == 0
    err = capfd.readouterr().err
    assert "note: " in err
    for word in ("org/Llama-1B", "org/Qwen-1B", *map(str, folders)):
        assert word in err


def test_a_base_that_nothing_is_merged_with_is_noted(pair, tmp_path, capfd):
    assert main(["adapters", "merge", *map(str, pair), "-o", str(tmp_path / "out"), "--base", "nowhere"]) == 0
    assert "note: the base nowhere is not read" in capfd.readouterr().err


def test_modules_that_one_adapter_lacks_are_noted(tmp_path, capfd):
    folders = [lora(0).write(tmp_path / "a"), lora(1, {FIRST: SHAPES[FIRST]}).write(tmp_path / "b")]
    assert main(["adapters", "merge", *map(str, folders), "-o", str(tmp_path / "out")]) == 0
    err = capfd.readouterr().err
    assert f"{folders[1]} has no update for 2 of the modules that others change (" in err
