"""Scores of answers: classification, overlap of texts, likeness of meaning, numbers, hallucination."""
