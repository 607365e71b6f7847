"""Classification with one frozen head that many adapters share: nothing but LoRA differs between models."""
