"""KnOTS of whole checkpoints: a plan whose jobs are merged in the basis that their updates share.

`modules` says which tensors these are, `stages` makes the plans of the three stages, `run` carries out the first
two: bases and coordinates, and the merge of the coordinates. The third is a plan like any other.
"""
