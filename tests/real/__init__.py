"""Checkpoints as other libraries write them."""
