"""Bad input, trouble on the way, interruption: one message, the right exit code, nothing half-made."""

from __future__ import annotations

import errno
import json
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import save_file

import carrick as package
from carrick import _core
from carrick.errors import FormatError


def truncated(models):
    path = models["math"] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    return models.config(), "model.safetensors"


def header_longer_than_the_file(models):
    path = models["math"] / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40) + path.read_bytes()[8:])
    return models.config(), "model.safetensors"


def with_header(models, change):
    """Write math's file with a changed header before the same data."""
    path = models["math"] / "model.safetensors"
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = change(json.loads(raw[8 : 8 + length]))
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    return models.config()


NORM = "model.norm.weight"


def overlapping_offsets(models):
    def overlap(header):
        header[NORM]["data_offsets"] = header["lm_head.weight"]["data_offsets"][:1] * 2
        header[NORM]["data_offsets"][1] += 2 * header[NORM]["shape"][0]
        return header

    return with_header(models, overlap), "overlap"


def offsets_beyond_the_file(models):
    def shift(header):
        header[NORM]["data_offsets"] = [at + 10**6 for at in header[NORM]["data_offsets"]]
        return header

    return with_header(models, shift), NORM


def offsets_that_do_not_fit_the_shape(models):
    def cut(header):
        header[NORM]["data_offsets"][1] -= 2
        return header

    return with_header(models, cut), NORM


def duplicate_tensor_names(models):
    def twice(header):
        text = json.dumps(header)
        return f'{text[:-1]}, "{NORM}": {json.dumps(header[NORM])}}}'.encode()

    return with_header(models, twice), NORM


def json_bomb(models):
    def nest(_header):
        return b'{"a":' * 200_000 + b"1" + b"}" * 200_000

    return with_header(models, nest), "model.safetensors"


def element_type_of_no_kind(models):
    def rename(header):
        header[NORM]["dtype"] = "BF17"
        return header

    return with_header(models, rename), "BF17"


def integers_for_floats(models):
    tensors = dict(models.tensors["math"])
    tensors[NORM] = tensors[NORM].astype("int16")
    save_file(tensors, models["math"] / "model.safetensors")
    return models.config(), NORM


def index_escaping_the_folder(models):
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "../base/model.safetensors"}}
    (models["math"] / "model.safetensors").unlink()
    (models["math"] / "model.safetensors.index.json").write_text(json.dumps(index))
    return models.config(), "../base/model.safetensors"


def index_naming_a_missing_shard(models):
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (models["math"] / "model.safetensors").unlink()
    (models["math"] / "model.safetensors.index.json").write_text(json.dumps(index))
    return models.config(), "model-00001-of-00002.safetensors"


def only_a_pickle(models):
    (models["math"] / "model.safetensors").rename(models["math"] / "pytorch_model.bin")
    return models.config(), "pickle"


def bad_yaml(models):
    return models.text("merge_method: linear\nmodels: [\n"), "config.yml"


def empty_yaml(models):
    return models.text(""), "config.yml"


def misspelt_key(models):
    return models.config(merge_methd="linear"), "merge_method"


def misspelt_method(models):
    return models.config(merge_method="linaer"), "linear"


def misspelt_parameter(models):
    return models.config(parameters={"normalise": True}), "normalize"


def density_too_large(models):
    task = [{"model": str(models["math"]), "parameters": {"weight": 1, "density": 1.5}}]
    return models.config(merge_method="ties", base_model=str(models["base"]), models=task), "density"


def shape_mismatch(models):
    tensors = dict(models.tensors["code"])
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1]
    save_file(tensors, models["code"] / "model.safetensors")
    return models.config(), "lm_head.weight"


def missing_tensor(models):
    tensors = dict(models.tensors["code"])
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, models["code"] / "model.safetensors")
    return models.config(), "model.layers.1.mlp.down_proj.weight"


def missing_model(models):
    sources = [{"model": str(models.root / "mth"), "parameters": {"weight": 1}}]
    return models.config(models=sources), "math"


def missing_config(models):
    return models.root / "none.yml", "none.yml"


BAD = [
    truncated, header_longer_than_the_file, overlapping_offsets, offsets_beyond_the_file,
    offsets_that_do_not_fit_the_shape, duplicate_tensor_names, json_bomb, element_type_of_no_kind,
    integers_for_floats, index_escaping_the_folder, index_naming_a_missing_shard,
    only_a_pickle, bad_yaml, empty_yaml, misspelt_key, misspelt_method, misspelt_parameter, density_too_large,
    shape_mismatch, missing_tensor, missing_model, missing_config,
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_one_message_and_exit_2(carrick, models, out, bad):
    config, hint = bad(models)
    answer = carrick("merge", config, out)
    assert answer.code == 2, answer.err
    assert answer.out == ""
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert hint in errors[0]
    assert "Traceback" not in answer.err
    assert not out.parent.exists()


def test_bad_input_shows_no_traceback_as_a_process(carrick_process, models, out):
    config, _ = truncated(models)
    answer = carrick_process("merge", config, out)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert not out.parent.exists()


def fail_with(error):
    """An engine that finishes one tensor and then fails."""

    def execute(_plan, partial, _options, _progress):
        Path(partial, "journal.jsonl").write_text('{"plan":""}\n{"job":0}\n')
        raise error

    return execute


def test_a_failure_midway_keeps_the_partial_folder_and_says_so(carrick, models, out, monkeypatch):
    config = models.config()
    with monkeypatch.context() as patch:
        patch.setattr(
            _core, "execute", fail_with(OSError(errno.EIO, "Input/output error", "model.safetensors"))
        )
        answer = carrick("merge", config, out)
    partial = out.with_name("merged.carrick-partial")
    assert answer.code == 1
    assert answer.err.startswith("error: model.safetensors: Input/output error\n")
    assert str(partial) in answer.err
    assert partial.is_dir()
    assert not out.exists()
    assert carrick("merge", config, out).code == 0
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


def test_a_full_disk_is_a_wrong_request_and_keeps_what_is_done(carrick, models, out, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device", "model.safetensors.part")
    monkeypatch.setattr(_core, "execute", fail_with(full))
    answer = carrick("merge", models.config(), out)
    assert answer.code == 2
    assert "No space left" in answer.err
    assert not out.exists()
    assert out.with_name("merged.carrick-partial").is_dir()


def test_a_failure_before_the_first_tensor_leaves_nothing(carrick, models, out, monkeypatch):
    def refuse(_plan, partial, _options, _progress):
        raise OSError(errno.ENOSPC, "No space left on device", partial)

    monkeypatch.setattr(_core, "execute", refuse)
    assert carrick("merge", models.config(), out).code == 2
    assert not out.parent.exists()


def test_inputs_that_changed_under_the_run_leave_nothing(carrick, models, out, monkeypatch):
    monkeypatch.setattr(_core, "execute", fail_with(FormatError("model.safetensors: has shrunk")))
    assert carrick("merge", models.config(), out).code == 2
    assert not out.parent.exists()


def test_a_fault_of_ours_is_exit_1_without_a_traceback(carrick, models, out, monkeypatch):
    monkeypatch.setattr(_core, "execute", fail_with(RuntimeError("boom")))
    answer = carrick("merge", models.config(), out)
    assert answer.code == 1
    assert "RuntimeError: boom" in answer.err
    assert "Traceback" not in answer.err


def test_two_runs_do_not_write_the_same_folder(carrick, models, out, monkeypatch):
    config = models.config()
    execute = _core.execute
    answers = []

    def start_another(plan, partial, options, progress):
        monkeypatch.setattr(_core, "execute", execute)
        answers.append(carrick("merge", config, out))
        return execute(plan, partial, options, progress)

    monkeypatch.setattr(_core, "execute", start_another)
    package.merge(config, out)
    assert answers[0].code == 2
    assert "another run" in answers[0].err
    assert [p.name for p in out.parent.iterdir()] == ["merged"]


def test_a_partial_folder_of_another_configuration_leaves_nothing_in_the_output(carrick, models, out):
    partial = out.with_name("merged.carrick-partial")
    (partial / "old").mkdir(parents=True)
    (partial / "tokenizer.model").write_bytes(b"of another model")
    (partial / "journal.jsonl").write_text("")
    assert carrick("merge", models.config(), out).code == 0
    assert not (out / "tokenizer.model").exists()
    assert not (out / "old").exists()


def test_an_interrupt_is_exit_130_and_can_be_resumed(carrick, models, out, monkeypatch):
    config = models.config()
    with monkeypatch.context() as patch:
        patch.setattr(_core, "execute", fail_with(KeyboardInterrupt()))
        answer = carrick("merge", config, out)
    assert answer.code == 130
    assert answer.err.startswith("error: interrupted\n")
    assert "carrick-partial" in answer.err
    assert carrick("merge", config, out).code == 0


def test_an_interrupt_before_the_command_begins_says_so(carrick, monkeypatch):
    """Typer itself ends with 130 then, and without a word."""

    def invoke(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.core.TyperGroup.invoke", invoke)
    answer = carrick("methods")
    assert answer.code == 130
    assert answer.err == "error: interrupted\n"


def test_ctrl_c_stops_a_process_that_would_never_end(models, out):
    """The engine is made to last by a callback that sleeps; the signal must get through it."""
    code = (
        "import signal, sys, time, carrick._core as core, carrick.cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whatever started the tests may ignore it
        "real = core.execute\n"
        "def slow(plan, partial, options, progress):\n"
        "    print('started', flush=True)\n"
        "    while True:\n"
        '        time.sleep(0.05); progress(\'{"bytes_done":0,"bytes_total":1,"tensors_done":0,'
        '"tensors_total":1,"tensor":"x","stage":"merge"}\')\n'
        "core.execute = slow\n"
        f"sys.exit(carrick.cli.main(['merge', {str(models.config())!r}, {str(out)!r}]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not out.parent.exists()
