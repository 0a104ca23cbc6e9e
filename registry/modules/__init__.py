"""Parts of backbones, heads and strategies. Most import torch, so import them inside functions."""

from registry.deferred import defer

defer("segment_anything")  # before any module here imports a part of it
