"""Merging adapters: which modules there are, the method on each, and the adapter that comes out."""
