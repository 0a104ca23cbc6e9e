"""Parts of backbones, heads and strategies. Most import torch, so import them inside functions."""
