"""Helpers for tests that generate frames."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from consistory_svd import (
    FrameDone,
    Model,
)
from consistory_svd.pipeline import Event


def latents_of(events: Iterator[Event]) -> torch.Tensor:
    done = {event.frame: event.latents for event in events if isinstance(event, FrameDone)}
    return torch.stack([done[frame] for frame in sorted(done)])


@contextmanager
def unchanged(model: Model) -> Iterator[None]:
    """Processors, scheduler, weights, hooks and lock are afterwards what they were."""
    unet, scheduler = model.pipe.unet, model.pipe.scheduler
    processors, config = dict(unet.attn_processors), dict(scheduler.config)
    weights = [(weight, weight._version) for weight in unet.parameters()]
    yield
    assert all(unet.attn_processors[name] is processor for name, processor in processors.items())
    assert model.pipe.scheduler is scheduler
    assert dict(scheduler.config) == config
    assert scheduler.num_inference_steps is None, "the model's own scheduler was stepped"
    assert all(weight._version == version for weight, version in weights)
    assert not unet._forward_hooks
    assert not unet._forward_pre_hooks
    assert not model.lock.locked()
