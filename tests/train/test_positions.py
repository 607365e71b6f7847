"""How many tokens a model computes, against the model itself: so many pass, one more does not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from carrick.positions import learnt_positions, most_tokens
from train.tiny import torch, transformers

SMALL = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
LEARNT = {
    "BERT": lambda: transformers.BertModel(
        transformers.BertConfig(**SMALL, intermediate_size=8, max_position_embeddings=14)
    ),
    # Positions are numbered from 2, behind that of padding: 12 remain.
    "RoBERTa": lambda: transformers.RobertaModel(
        transformers.RobertaConfig(**SMALL, intermediate_size=8, max_position_embeddings=14, pad_token_id=1)
    ),
    "DistilBERT": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(
            vocab_size=9, dim=8, n_layers=1, n_heads=2, hidden_dim=8, max_position_embeddings=14
        )
    ),
    "GPT-2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, n_positions=14)
    ),
    # Its table has two rows more than positions.
    "OPT": lambda: transformers.OPTForCausalLM(
        transformers.OPTConfig(
            **SMALL, ffn_dim=8, max_position_embeddings=14, word_embed_proj_dim=8, pad_token_id=1
        )
    ),
}


UNSTATED = SimpleNamespace(model_max_length=10**30)


@pytest.mark.parametrize("kind", LEARNT)
def test_so_many_tokens_and_no_more(kind):
    model = LEARNT[kind]().eval()
    room = learnt_positions(model)
    assert room == most_tokens(model, UNSTATED) == (12 if kind == "RoBERTa" else 14)
    mask = torch.ones(1, room + 1, dtype=torch.int64)
    with torch.no_grad():
        model(input_ids=torch.full((1, room), 5), attention_mask=mask[:, :room])
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, room + 1), 5), attention_mask=mask)


def test_weights_are_not_needed():
    with torch.device("meta"):
        assert learnt_positions(LEARNT["RoBERTa"]()) == 12


def test_computed_positions_go_on():
    llama = transformers.LlamaModel(
        transformers.LlamaConfig(**SMALL, intermediate_size=8, max_position_embeddings=14)
    )
    assert (learnt_positions(llama), most_tokens(llama, UNSTATED)) == (None, 14)


def test_models_that_state_no_length():
    t5 = transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    )
    xlnet = transformers.XLNetModel(
        transformers.XLNetConfig(vocab_size=9, d_model=8, n_layer=1, n_head=2, d_inner=8)
    )
    for model in (t5, xlnet):
        assert learnt_positions(model) is None
        assert most_tokens(model, UNSTATED) == 512
        assert most_tokens(model, SimpleNamespace(model_max_length=4096)) == 4096


def test_the_smaller_length_of_model_and_tokenizer_holds():
    model = LEARNT["RoBERTa"]()
    lengths = [most_tokens(model, SimpleNamespace(model_max_length=stated)) for stated in (11, 12, 13, 4096)]
    assert lengths == [11, 12, 12, 12]
