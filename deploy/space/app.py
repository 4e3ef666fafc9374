"""The studio as a Hugging Face Space: on ZeroGPU, on its own GPU, or on its CPU with the storybook model.

The variable CONSISTORY_SVD_MODEL of the Space names another model than these;
CONSISTORY_SVD_HIDE_SEXUAL_PICTURES switches a filter on.
"""

import logging
import os

import spaces.config  # before torch: on ZeroGPU it stands in for CUDA
import torch

from consistory_svd.compat import quiet_libraries
from consistory_svd.content_filter import ContentFilter, load_content_filter
from consistory_svd.limits import hides_sexual_pictures, limits_of
from consistory_svd.metrics import ScoreSettings
from consistory_svd.metrics.weights import PICTURE_FILTER, fetch_weights
from consistory_svd.studio import create_demo, launch

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
log = logging.getLogger("space")


def chosen_content_filter() -> ContentFilter | None:
    """The filter for sexual pictures where the Space's variable asks for it; its weights are fetched at every
    start, because a Space's disk forgets. The Space does not start without them: FetchError, ValueError."""
    if not hides_sexual_pictures(os.environ):
        return None
    fetch_weights(PICTURE_FILTER, ScoreSettings())
    return load_content_filter()


def main() -> None:
    """Choose model and manager by the hardware, and serve the page until the Space ends."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    quiet_libraries()
    content_filter = chosen_content_filter()
    source = os.environ.get("CONSISTORY_SVD_MODEL") or (SDXL if torch.cuda.is_available() else None)
    limits, manager = limits_of(exposed=True), None
    if spaces.config.Config.zero_gpu:
        from consistory_svd.studio.queue import GenerationQueue
        from consistory_svd.studio.zerogpu import zero_gpu_manager

        queue = GenerationQueue(limits.queue)
        manager = zero_gpu_manager(source, queue=queue, content_filter=content_filter)
    log.info("%s with %s", "ZeroGPU" if manager else "own hardware", source or "the storybook model")
    # No port: 7860, or what GRADIO_SERVER_PORT says.
    demo = create_demo(
        source,
        limits=limits,
        manager=manager,
        may_switch=False,
        content_filter=content_filter,
    )
    launch(demo, host="0.0.0.0", port=None, public=True)


if __name__ == "__main__":
    main()
