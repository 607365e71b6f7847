"""Adapters that PEFT wrote, read by Carrick, and the other way round."""
