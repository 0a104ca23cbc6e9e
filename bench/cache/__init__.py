"""Embeddings of frozen encoders on disk: single entries, their folder with its bound, and what it holds."""
