"""Models from diffusers folders, single files, the Hub and LoRAs: safetensors only, and no code."""
