"""Finding the files of a model: every layout that is accepted, every trap that is refused."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from pathlib import Path

from carrick.checkpoints import find
from carrick.errors import FormatError
from plan.tiny import llama, llama_config, write


def one(name: str, *shape: int) -> dict[str, np.ndarray]:
    return {name: np.zeros(shape or (2,), np.float32)}


def index(folder: Path, weight_map: object, name: str = "model.safetensors.index.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def test_single_file_folder_has_tensors_in_file_order(tmp_path: Path) -> None:
    tensors = llama()
    found = find(str(write(tmp_path / "m", tensors, llama_config())))
    assert set(found.tensors) == set(tensors)
    begins = [t.begin for t in found.tensors.values()]
    assert begins == sorted(begins)
    assert (found.layers, found.kind, found.tie_word_embeddings) == (4, "llama", False)
    assert found.tensors["model.norm.weight"].shape == (4,)
    assert found.tensors["model.norm.weight"].dtype == "BF16"


def test_one_file_of_many_is_a_checkpoint(tmp_path: Path) -> None:
    save_file(one("w"), tmp_path / "some.safetensors")
    save_file(one("v"), tmp_path / "other.safetensors")
    assert list(find(str(tmp_path / "some.safetensors")).tensors) == ["w"]


def test_sharded_with_index(tmp_path: Path) -> None:
    tensors = llama()
    found = find(str(write(tmp_path / "m", tensors, llama_config(), shards=3)))
    assert len(found.files) == 3
    assert set(found.tensors) == set(tensors)
    assert [t.file for t in found.tensors.values()] == sorted(t.file for t in found.tensors.values())


def test_diffusers_index(tmp_path: Path) -> None:
    save_file(one("w"), tmp_path / "diffusion_pytorch_model-00001-of-00001.safetensors")
    index(
        tmp_path,
        {"w": "diffusion_pytorch_model-00001-of-00001.safetensors"},
        "diffusion_pytorch_model.safetensors.index.json",
    )
    assert list(find(str(tmp_path)).tensors) == ["w"]


def test_index_path_may_be_given(tmp_path: Path) -> None:
    write(tmp_path / "m", llama(), None, shards=2)
    assert len(find(str(tmp_path / "m" / "model.safetensors.index.json")).files) == 2


def test_loose_files_together(tmp_path: Path) -> None:
    save_file(one("w"), tmp_path / "a.safetensors")
    save_file(one("v"), tmp_path / "b.safetensors")
    assert list(find(str(tmp_path)).tensors) == ["w", "v"]


def test_files_that_the_index_does_not_name_are_noted(tmp_path: Path) -> None:
    write(tmp_path / "m", llama(), None, shards=2)
    save_file(one("w"), tmp_path / "m" / "consolidated.safetensors")
    found = find(str(tmp_path / "m"))
    assert "w" not in found.tensors
    assert any("consolidated.safetensors" in note for note in found.notes)


def test_tensors_that_the_index_does_not_list_count(tmp_path: Path) -> None:
    save_file(one("w") | one("extra"), tmp_path / "x.safetensors")
    index(tmp_path, {"w": "x.safetensors"})
    found = find(str(tmp_path))
    assert set(found.tensors) == {"w", "extra"}
    assert any("does not list 1 tensors" in note for note in found.notes)


def test_hub_cache_links_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    save_file(one("w"), blobs / "0123")
    (snapshot / "x.safetensors").symlink_to("../../blobs/0123")
    index(snapshot, {"w": "x.safetensors"})
    assert list(find(str(snapshot)).tensors) == ["w"]


@pytest.mark.parametrize(
    "entry", ["../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "..", "", "a\\x.safetensors"]
)
def test_index_must_name_plain_files(tmp_path: Path, entry: str) -> None:
    save_file(one("w"), tmp_path / "x.safetensors")
    folder = tmp_path / "m"
    (folder / "sub").mkdir(parents=True)
    save_file(one("w"), folder / "sub" / "x.safetensors")
    index(folder, {"w": entry})
    with pytest.raises(FormatError, match="not a plain file name"):
        find(str(folder))


def test_index_naming_a_missing_shard(tmp_path: Path) -> None:
    index(tmp_path, {"w": "model-00001-of-00002.safetensors"})
    with pytest.raises(FormatError, match=r"model-00001-of-00002.safetensors.*not in the folder"):
        find(str(tmp_path))


def test_index_naming_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    index(tmp_path, {"w": "pytorch_model.bin"})
    with pytest.raises(FormatError, match=r"not a .safetensors file"):
        find(str(tmp_path))


def test_index_listing_what_the_shard_does_not_hold(tmp_path: Path) -> None:
    save_file(one("w"), tmp_path / "x.safetensors")
    save_file(one("v"), tmp_path / "y.safetensors")
    index(tmp_path, {"w": "y.safetensors", "v": "y.safetensors", "u": "x.safetensors"})
    with pytest.raises(FormatError, match=r"says that y.safetensors holds 'w'.*it is in x.safetensors"):
        find(str(tmp_path))


def test_same_tensor_in_two_files(tmp_path: Path) -> None:
    save_file(one("w"), tmp_path / "a.safetensors")
    save_file(one("w"), tmp_path / "b.safetensors")
    with pytest.raises(FormatError, match=r"b.safetensors: tensor 'w' is in .*a.safetensors too"):
        find(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 200_000, "not valid JSON"),
        ('{"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}}', "key 'w' occurs twice"),
        ('{"weight_map": []}', "no `weight_map`"),
        ('{"weight_map": {"w": 3}}', "not a file name"),
        ("[]", "no `weight_map`"),
        ("\x00", "not valid JSON"),
    ],
)
def test_malformed_index(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(FormatError, match=message):
        find(str(tmp_path))


def test_malformed_config_json(tmp_path: Path) -> None:
    write(tmp_path, one("w"))
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(FormatError, match=r"config.json: is not a JSON object"):
        find(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("pytorch_model.bin", "pickles .* never loaded.*save_pretrained"),
        ("model.gguf", "GGUF .* not supported"),
        ("adapter_model.safetensors", "an adapter, not a whole model"),
        ("notes.txt", "no .safetensors file"),
    ],
)
def test_folders_without_weights_say_what_to_do(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(FormatError, match=message):
        find(str(tmp_path))


def test_incomplete_loose_shards(tmp_path: Path) -> None:
    save_file(one("w"), tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(FormatError, match=r"model-00002-of-00002.safetensors is missing"):
        find(str(tmp_path))


def test_misspelt_path_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "llama", one("w"))
    with pytest.raises(FormatError, match=r"did you mean .*llama`\?"):
        find(str(tmp_path / "lama"))


def test_local_path_has_no_revision(tmp_path: Path) -> None:
    write(tmp_path, one("w"))
    with pytest.raises(FormatError, match="no revision 'main'"):
        find(str(tmp_path), "main")


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are files of POSIX")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match="not a regular file"):
        find(str(tmp_path))


def hub_cache(root: Path, repo: str, commit: str) -> Path:
    folder = root / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    return write(folder / "snapshots" / commit, llama(), llama_config())


def test_hub_id_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    hub_cache(tmp_path, "org/model", commit)
    found = find("org/model")
    assert (found.ref, found.revision, found.layers) == ("org/model", commit, 4)
    with pytest.raises(FormatError, match=r"revision 'v2'.*nor in the Hugging Face cache.*--download"):
        find("org/model", "v2")
    with pytest.raises(FormatError, match="org/other: neither a local folder nor in the Hugging Face cache"):
        find("org/other")
