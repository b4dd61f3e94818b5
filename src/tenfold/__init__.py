"""Trained PyTorch networks several times smaller."""
