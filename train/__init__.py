"""Finetuning: examples to texts, texts to tensors, cells to trained models."""
