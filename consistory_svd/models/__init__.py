"""Where weights come from: folders, single files, the hub, LoRA files. Safetensors only, and no code."""

from consistory_svd.models.diffusers_folder import load_folder
from consistory_svd.models.hub import HUB_ID, fetch_model, is_kept, kept_folder, reachable
from consistory_svd.models.lora import Lora, load_loras, read_lora, unload_loras
from consistory_svd.models.single_file import SDXL_CONFIG, load_single_file

__all__ = [
    "HUB_ID",
    "SDXL_CONFIG",
    "Lora",
    "fetch_model",
    "is_kept",
    "kept_folder",
    "load_folder",
    "load_loras",
    "load_single_file",
    "reachable",
    "read_lora",
    "unload_loras",
]
