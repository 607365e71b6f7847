"""Extracting an adapter: which tensors become factors, which are stored whole, and the folder that is written."""
