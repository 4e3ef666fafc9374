"""Scores of finished pictures. They take pictures, prompts and masks, and know nothing of U-Nets."""
