"""Merges inside a live PeftModel whose base ties its head to its embeddings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from carrick.torch import add_merged_adapter

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

TOKENS = torch.arange(24).reshape(2, 12) % 30
SHAPE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(TOKENS).logits
    return found


@pytest.mark.parametrize("targets", [["q_proj", "embed_tokens", "lm_head"], ["q_proj", "embed_tokens"]])
def test_the_result_is_not_tied_as_its_first_input_is(targets: list[str]) -> None:
    """PEFT computes the sum itself, with both active."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=32, tie_word_embeddings=True, **SHAPE)
    base = transformers.LlamaForCausalLM(config).double().eval()
    tied = peft.LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True)
    model = peft.get_peft_model(base, tied, "tied")
    model.add_adapter("apart", peft.LoraConfig(r=3, target_modules=targets))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:  # in place: the tied factors are views of one another
                parameter.normal_(std=0.3)
    model.base_model.set_adapter(["tied", "apart"])
    want = logits(model.eval())
    add_merged_adapter(model, ["tied", "apart"], "both", method="cat", weights=[1.0, 1.0])
    model.set_adapter("both")
    torch.testing.assert_close(logits(model), want, rtol=1e-5, atol=1e-5)
    assert model.peft_config["both"].ensure_weight_tying is False
