"""A stand-in for ZeroGPU: `python tests/fake_zerogpu.py PROGRAM` runs a program with the package `spaces`.

Its scheduler is a small HTTP server here, and the GPU that it lends is the CPU: what was moved to "cuda"
stays where it was. All else is the package's own: the stand-in for CUDA in the parent, the fork, the queues,
how a generator's values come back and how it is closed. It prints each call of the scheduler.
"""

import json
import os
import runpy
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

REFUSED = "LENT_GPU_REFUSES"  # in the environment: no GPU is free


class Scheduler(BaseHTTPRequestHandler):
    """Answers what `spaces.zero.api` asks."""

    def do_POST(self) -> None:
        """Lend the one GPU to whoever asks, or to nobody."""
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        said = [asked[name] for name in ("durationSeconds", "token") if name in asked]
        print("scheduler", address.path, *said, flush=True)  # noqa: T201
        if address.path != "/schedule":
            self._answer(200, {})
        elif REFUSED in os.environ:
            self._answer(429, {"left": 10, "wait": "PT1H"})
        else:
            self._answer(200, {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "none", "allowToken": "token"})

    def _answer(self, code: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def stand_in() -> None:
    """Start the scheduler, and make `spaces` believe that it runs on ZeroGPU."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scheduler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["SPACES_ZERO_GPU"] = "true"
    os.environ["SPACES_ZERO_DEVICE_API_URL"] = f"http://127.0.0.1:{server.server_port}"

    import torch

    if torch.version.cuda is None:  # a torch without CUDA: what the package looks up at import
        torch.version.cuda = "13.0"
        torch._C._cuda_init = lambda: None
        torch.cuda._is_in_bad_fork = bool  # False, and sent to another process
        torch.cuda.mem_get_info = lambda device=None: (70 * 10**9, 70 * 10**9)
        torch.cuda.memory_reserved = torch.cuda.memory_allocated = lambda device=None: 0
    import spaces
    from spaces.zero import torch as patched
    from spaces.zero.torch import patching

    def move(callback: object = None) -> None:
        """Give what was moved to the GPU its values back, where they are; a CPU is slow in float16."""
        for fake, original in patching.cuda_aliases.items():
            plain = original.as_subclass(torch.Tensor)
            fake.data = plain.float() if plain.dtype == torch.float16 else plain

    patched.init = lambda uuid: None
    patched.move = move
    patched.pack = lambda: 0
    assert spaces.config.Config.zero_gpu


if __name__ == "__main__":
    stand_in()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    runpy.run_path(sys.argv[0], run_name="__main__")
