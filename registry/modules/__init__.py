"""Parts of backbones, heads and strategies. Most import torch: import them inside functions."""
