"""Metrics that read texts and images by what they mean, with the embeddings of a local model."""
