"""The configuration of a model small enough for any test."""

from clipoint3d_ros.pretraining.config import ModelConfig

SMALL = ModelConfig(
    embed_dim=32,
    image_size=32,
    patch_size=8,
    vision_width=32,
    vision_layers=2,
    vision_head_width=16,
    stem=(8, 8, 8),
    context_length=24,
    text_width=16,
    text_layers=1,
    text_heads=2,
)
