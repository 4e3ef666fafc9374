# The studio in a container, on port 7860 or CONSISTORY_SVD_PORT: see "Deploy" in README.md.
#   docker build -t consistory-svd .
#   docker build -t consistory-svd:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
# The image contains the embedded model alone; other weights go to the volume /cache, saved stories to /library.

ARG PYTHON=3.12-slim-trixie

FROM python:${PYTHON} AS wheel
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE requirements.txt requirements-dev.txt ./
COPY assets assets
COPY consistory_svd consistory_svd
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:${PYTHON}
ENV PIP_ROOT_USER_ACTION=ignore \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# Layers in order: largest and most stable first.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" torch==2.13.0 torchvision==0.28.0
RUN --mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt \
    pip install --no-cache-dir -r /tmp/requirements.txt
RUN groupadd --gid 10001 story \
    && useradd --uid 10001 --gid story --no-create-home --home-dir /tmp --shell /usr/sbin/nologin story \
    && install --directory --owner story --group story /cache /library
RUN --mount=type=bind,from=wheel,source=/wheel,target=/tmp/wheel \
    pip install --no-cache-dir --no-deps /tmp/wheel/*.whl

# All files are written to /tmp, /cache or /library: the root may be read-only.
ENV HOME=/tmp \
    TMPDIR=/tmp \
    GRADIO_TEMP_DIR=/tmp/gradio \
    HF_HOME=/cache/huggingface \
    CONSISTORY_SVD_CACHE=/cache/scores \
    CONSISTORY_SVD_LIBRARY=/library \
    CONSISTORY_SVD_HOST=0.0.0.0 \
    CONSISTORY_SVD_PORT=7860 \
    GRADIO_ANALYTICS_ENABLED=False \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME ["/cache", "/library"]
WORKDIR /tmp
USER 10001:10001
EXPOSE 7860
# Process 1 of a container ignores SIGTERM unless it handles it; Python handles SIGINT.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"CONSISTORY_SVD_PORT\"]}/', timeout=4)"]
ENTRYPOINT ["consistory-svd"]
CMD ["studio"]
