# metaslac in a container, for CPUs and GPUs; see docs/cluster.md.
FROM python:3.12-slim

# Rendering, as in the README and the Makefile; python3-venv is not needed here.
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        libegl1 libopengl0 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*

# Another index for torch alone: that which pip asks has wheels with CUDA, which are far larger.
ARG TORCH_INDEX=
WORKDIR /opt/metaslac
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt \
        ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch

COPY . .
# The commit that is built, for runs to say: git is not here to ask.
ARG COMMIT=
RUN if [ -n "${COMMIT}" ]; then echo "${COMMIT}" > metaslac/storage/commit.txt; fi
ARG EXTRAS=data,hub,slurm
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"

# What of NVIDIA's driver is to be had in the container, with a GPU: EGL is among graphics.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics

RUN useradd --create-home metaslac
USER metaslac
WORKDIR /home/metaslac
RUN metaslac doctor

ENTRYPOINT ["metaslac"]
CMD ["--help"]
