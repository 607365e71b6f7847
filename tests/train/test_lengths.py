"""Rows whose answer `max_length` cuts off, and rows beyond the base's positions: told before anything trains."""

from __future__ import annotations

import pytest

import carrick
from carrick.errors import ConfigError
from train.tiny import bert, jsonl, llama, opinions, questions, tokenizer, torch, transformers

pytest.importorskip("trl")
load_file = pytest.importorskip("safetensors.torch").load_file
lengths = pytest.importorskip("carrick.train.lengths")
prepare = pytest.importorskip("carrick.train.prepare").prepare
recipes = pytest.importorskip("carrick.train.recipe")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return llama(tmp_path_factory.mktemp("lengths") / "llama")


@pytest.fixture
def place(base, tmp_path, monkeypatch):
    (tmp_path / "llama").symlink_to(base)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(tokens, answer=" good"):
    """A row whose prompt has so many tokens: each word is one."""
    return {"prompt": " ".join(["cat"] * tokens), "completion": answer}


def recipe(longest, **changes):
    content = {
        "base": "llama",
        "data": {"train": {"file": "qa.jsonl"}},
        "adapter": {"rank": 2, "targets": ["q_proj", "v_proj"]},
        "training": {"steps": 1, "batch_size": 4, "learning_rate": 0.01, "max_length": longest},
    }
    return {**content, **changes}


def train(content, out, **options):
    return carrick.train(content, out, device="cpu", progress=False, **options)


def checked(content):
    return train(content, "out", dry_run=True)


class TestTraining:
    def test_nothing_left_is_one_error(self, place):
        jsonl(place / "qa.jsonl", [asked(9), asked(8), asked(12)])
        with pytest.raises(ConfigError) as caught:
            train(recipe(8), "out")
        assert str(caught.value) == (
            f"{place / 'qa.jsonl'}:2: the prompt has 8 tokens, the shortest of 3, and `training.max_length` is 8: "
            "no row of `data.train` has a token of its answer left; raise `max_length`, or shorten the prompts"
        )
        assert not list(place.glob("out*"))

    def test_a_single_row(self, place):
        jsonl(place / "qa.jsonl", [asked(9)])
        with pytest.raises(ConfigError, match=r"qa\.jsonl:1: the prompt has 9 tokens, and `training"):
            checked(recipe(8))

    def test_some_are_named_and_left_out(self, place):
        """The weights are those of a training without these rows."""
        kept = questions(6)
        jsonl(place / "qa.jsonl", [kept[0], asked(16), *kept[1:4], asked(20), *kept[4:]])
        report = train(recipe(16), "out")
        assert report.notes == (
            "2 of 8 rows have no token of the answer within `max_length` (16) and were left out: "
            f"{place / 'qa.jsonl'}:2 (a prompt of 16 tokens), {place / 'qa.jsonl'}:6 (a prompt of 20 tokens); "
            "raise it, or shorten the prompts",
        )
        account = report.record["data"]["train"]
        assert (account["dropped"], account["rows"]) == (2, 6)
        jsonl(place / "qa.jsonl", kept)
        other = train(recipe(16), "other")
        assert other.notes == ()
        assert other.record["data"]["train"]["dropped"] == 0
        assert other.record["data"]["train"]["tokens"] == account["tokens"]
        found, expected = (load_file(place / each / "adapter_model.safetensors") for each in ("out", "other"))
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())

    def test_one_token_of_an_answer_is_enough(self, place):
        jsonl(place / "qa.jsonl", [asked(7)])
        assert checked(recipe(8)).notes == ()

    def test_of_many_three_are_named(self, place):
        jsonl(place / "qa.jsonl", [*questions(2), *(asked(20 + n) for n in range(5))])
        (note,) = checked(recipe(16)).notes
        assert note.startswith("5 of 7 rows have no token")
        assert note.endswith("qa.jsonl:5 (a prompt of 22 tokens), 2 more; raise it, or shorten the prompts")
        jsonl(place / "qa.jsonl", [*questions(2), asked(20)])
        (note,) = checked(recipe(16)).notes
        assert note.startswith(
            "1 of 3 rows has no token of the answer within `max_length` (16) and was left out"
        )

    def test_a_plain_text_has_no_prompt(self, place):
        jsonl(place / "qa.jsonl", [{"text": "the cat " * 20}])
        assert checked(recipe(8)).notes == ()

    def test_tokens_that_prompt_and_answer_share_are_the_answers(self, place):
        """ "ca" is one unknown token before "t", and no token of its own in "cat"."""
        jsonl(place / "qa.jsonl", [{"prompt": "the the ca", "completion": "t sat"}])
        assert checked(recipe(3)).notes == ()
        with pytest.raises(ConfigError, match="the prompt has 3 tokens"):
            checked(recipe(2))


class TestValidation:
    def test_nothing_left(self, place):
        jsonl(place / "qa.jsonl", questions(4))
        jsonl(place / "validation.jsonl", [asked(9)])
        data = {"train": {"file": "qa.jsonl"}, "validation": {"file": "validation.jsonl"}}
        with pytest.raises(
            ConfigError, match=r"validation\.jsonl:1: .* no row of `data\.validation` has a token"
        ):
            checked(recipe(8, data=data))

    def test_some_are_left_out(self, place):
        jsonl(place / "qa.jsonl", questions(4))
        jsonl(place / "validation.jsonl", [asked(30), *questions(3)])
        data = {"train": {"file": "qa.jsonl"}, "validation": {"file": "validation.jsonl"}}
        report = train(recipe(16, data=data), "out")
        (note,) = report.notes
        assert note.startswith("1 of 4 rows for validation has no token")
        assert f"{place / 'validation.jsonl'}:1 (a prompt of 30 tokens)" in note
        assert report.record["data"]["validation"]["rows"] == 3
        assert report.record["data"]["train"]["dropped"] == 0
        jsonl(place / "validation.jsonl", questions(3))
        assert train(recipe(16, data=data), "other").record["validation"] == report.record["validation"]


CHAT = {"train": {"file": "qa.jsonl"}, "chat": True}


class TestChat:
    def test_without_a_template(self, place):
        jsonl(place / "qa.jsonl", questions(4))
        with pytest.raises(
            ConfigError, match=r"^data\.chat: the tokenizer of .*llama has no chat template; leave"
        ):
            checked(recipe(16, data=CHAT))

    def test_the_template_counts(self, place, base):
        (place / "llama").unlink()
        llama(place / "llama")
        made = transformers.AutoTokenizer.from_pretrained(base)
        made.chat_template = (
            "{% for m in messages %}{{ 'rain ' if m.role == 'user' else 'sun ' }}{{ m.content }}"
            "{{ ' <eos>' if m.role == 'assistant' else ' ' }}{% endfor %}{% if add_generation_prompt %}sun {% endif %}"
        )
        made.save_pretrained(place / "llama")
        jsonl(place / "qa.jsonl", [asked(4), asked(6)])
        (note,) = checked(recipe(8, data=CHAT)).notes  # "rain", six words, "sun"
        assert note.startswith("1 of 2 rows")
        assert "qa.jsonl:2 (a prompt of 8 tokens)" in note
        assert checked(recipe(9, data=CHAT)).notes == ()


class TestSimultaneous:
    def job(self, place):
        content = recipe(8, method="simultaneous", partition={"name": "A"})
        del content["data"]
        content["sources"] = {side: {"train": {"file": f"{side}.jsonl"}} for side in ("task", "language")}
        read, folder = recipes.load_recipe(content)
        return prepare(read.located(folder or place), place / "out", "cpu", progress=False)

    def test_each_source_keeps_its_rows(self, place):
        jsonl(place / "task.jsonl", [asked(9), asked(1), asked(2), asked(10)])
        jsonl(place / "language.jsonl", [asked(3), asked(11), asked(4)])
        job = lengths.leave_out_cut(self.job(place))
        found = {
            side: [len(job.rows.examples[number].text.split()) for number in places]
            for side, places in job.streams.items()
        }
        assert found == {"task": [1, 2], "language": [3, 4]}
        assert job.dropped == 3

    def test_a_source_without_rows_is_named(self, place):
        jsonl(place / "task.jsonl", [asked(1)])
        jsonl(place / "language.jsonl", [asked(11)])
        with pytest.raises(
            ConfigError, match=r"language\.jsonl:1: .* no row of `sources\.language` has a token"
        ):
            lengths.leave_out_cut(self.job(place))


class TestPositions:
    @pytest.fixture
    def gpt2(self, place):
        config = transformers.GPT2Config(
            vocab_size=28, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=2
        )
        transformers.GPT2LMHeadModel(config).save_pretrained(place / "gpt2")
        tokenizer(place / "gpt2")

    @pytest.mark.usefixtures("gpt2")
    def test_rows_beyond_learnt_positions(self, place):
        change = {"base": "gpt2", "adapter": {"rank": 2, "targets": ["c_attn"]}}
        jsonl(place / "qa.jsonl", [asked(4), asked(14)])  # with the answer and the end 16 tokens
        assert checked(recipe(64, **change)).notes == ()
        jsonl(place / "qa.jsonl", [asked(4), asked(15)])
        with pytest.raises(ConfigError) as caught:
            checked(recipe(64, **change))
        assert str(caught.value) == (
            f"{place / 'qa.jsonl'}:2: the row has 17 tokens, and {place / 'gpt2'} has positions for 16; write "
            "`max_length: 16` under `training`, at which rows are cut"
        )
        assert checked(recipe(16, **change)).notes == ()

    @pytest.mark.usefixtures("gpt2")
    def test_rows_for_validation_too(self, place):
        jsonl(place / "qa.jsonl", [asked(4)])
        jsonl(place / "long.jsonl", [asked(30)])
        data = {"train": {"file": "qa.jsonl"}, "validation": {"file": "long.jsonl"}}
        with pytest.raises(ConfigError, match=r"long\.jsonl:1: the row has 32 tokens"):
            checked(recipe(64, base="gpt2", data=data, adapter={"rank": 2, "targets": ["c_attn"]}))

    def test_rotary_ones_go_on(self, place):
        jsonl(place / "qa.jsonl", [asked(70)])
        assert checked(recipe(100)).notes == ()

    def test_classification(self, place):
        from carrick.classifier.head import Head  # noqa: PLC0415

        bert(place / "bert")
        weight = torch.zeros(2, 32).numpy()
        Head(weight, weight[:, 0], ("bad", "good"), "bert").save(place / "head")
        jsonl(place / "qa.jsonl", [*opinions(3), {"text": "the cat " * 40, "label": 1}])
        change = {"base": "bert", "task": "classification", "head": "head"}
        with pytest.raises(
            ConfigError, match=r"qa\.jsonl:4: the row has 80 tokens, and .* has positions for 64;"
        ):
            checked(recipe(128, **change, adapter={"rank": 2, "targets": ["query"]}))
        assert checked(recipe(64, **change, adapter={"rank": 2, "targets": ["query"]})).notes == ()
