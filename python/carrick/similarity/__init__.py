"""How alike models are: cosine similarity and sign conflicts of their task vectors."""

from carrick.similarity.compare import similarity
from carrick.similarity.heatmap import plot
from carrick.similarity.result import Likeness, Similarity

__all__ = ["Likeness", "Similarity", "plot", "similarity"]
