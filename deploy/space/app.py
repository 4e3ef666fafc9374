"""The studio as a Hugging Face Space: SDXL on ZeroGPU or a GPU of its own, the storybook model on a CPU.

Variables of the Space: CONSISTORY_SVD_MODEL sets another model, CONSISTORY_SVD_HIDE_SEXUAL_PICTURES
enables the content filter.
"""

import logging
import os

from consistory_svd.compat import quiet_libraries

import spaces.config  # before torch: on ZeroGPU it emulates CUDA
import torch

from consistory_svd.content_filter import ContentFilter, load_content_filter
from consistory_svd.limits import hides_sexual_pictures, limits_of
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.weights import PICTURE_FILTER, fetch_weights
from consistory_svd.studio import create_demo, launch

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
log = logging.getLogger("space")


def chosen_content_filter() -> ContentFilter | None:
    """Load the content filter if the Space's variable enables it.

    Its weights are downloaded at every start, because a Space's disk is not persistent. The Space does not
    start without them.
    """
    if not hides_sexual_pictures(os.environ):
        return None
    fetch_weights(PICTURE_FILTER, ScoreSettings())
    return load_content_filter()


def main() -> None:
    """Choose the model by the hardware and serve the page until the Space stops."""
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
    # Without a port: 7860, or GRADIO_SERVER_PORT.
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
