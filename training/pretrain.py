"""Teach both text encoders the words, before any picture is drawn."""

from __future__ import annotations

import logging
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from consistory_svd.metrics.vocabulary import attributes_in
from training.captions import caption, vocabulary
from training.model import WIDTHS, TextToNoise
from training.parallel import average_gradients, rank, same_everywhere
from training.text import random_truth, tokenize
from training.world.vocabulary import ACCESSORIES, ACTIONS, COLORS, PATTERNS, SCENES, STYLES, SUBJECTS

log = logging.getLogger(__name__)
CLASSES = {
    "subject": SUBJECTS,
    "color": tuple(COLORS),
    "pattern": PATTERNS,
    "accessory": ACCESSORIES,
    "accessory_color": tuple(COLORS),
    "scene": SCENES,
    "action": ACTIONS,
    "style": STYLES,
}


def pretrain_text(
    model: TextToNoise, tokenizer, steps: int, device: str, seconds: float | None = None
) -> float:
    """Teach both text encoders to say what a caption names, before any picture is drawn; returns the last
    accuracy.

    A hundred times cheaper than learning the words through the U-Net's loss.
    """
    heads = nn.ModuleList(
        nn.ModuleDict({key: nn.Linear(width, len(names)) for key, names in CLASSES.items()})
        for width in WIDTHS
    ).to(device)
    parameters = [*model.text_encoder.parameters(), *model.text_encoder_2.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    words = vocabulary()
    rng, start, accuracy = np.random.default_rng(11 + rank()), time.monotonic(), 0.0
    for step in range(steps):
        truths = [random_truth(rng) for _ in range(48)]
        texts = [caption(t, rng) for t in truths]
        named = [attributes_in(text, words) for text in texts]
        ids = tokenize(tokenizer, texts).to(device)
        pooled = [model.text_encoder(ids).pooler_output, model.text_encoder_2(ids).text_embeds]
        loss, right, asked = 0.0, 0, 0
        for key, names in CLASSES.items():
            # What a caption does not name is not asked for (-100 is left out of the loss).
            labels = torch.tensor([names.index(n[key]) if key in n else -100 for n in named], device=device)
            if (labels < 0).all():
                continue
            for head, features in zip(heads, pooled, strict=True):
                scores = head[key](features)
                loss = loss + F.cross_entropy(scores, labels)
                right += int(((scores.argmax(-1) == labels) & (labels >= 0)).sum())
                asked += int((labels >= 0).sum())
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 50, 2 * (1 - step / steps))
        # Zeros, not None: a head that nothing asked for on this process must still take part in the
        # averaging.
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        average_gradients(parameters)
        optimizer.step()
        accuracy = right / asked
        if step % 50 == 0 and rank() == 0:
            log.info("text step %d accuracy %.3f %.2f s", step, accuracy, time.monotonic() - start)
        if seconds and same_everywhere(time.monotonic() - start) > seconds:
            break
    return accuracy
