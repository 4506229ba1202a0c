# The image of every pod of sweeps/cluster/rayjob.yaml: Ray's own, with safesweep in its Python.
#     docker build --tag registry.example/safesweep:0.1.0 .
# For nodes without GPUs: --build-arg BASE=rayproject/ray:2.60.0-py311-cpu. Without the simulators of
# Bullet and MuJoCo, which take a C compiler: --build-arg EXTRAS=""
ARG BASE=rayproject/ray:2.60.0-py311-gpu
FROM ${BASE}
ARG EXTRAS="[simulators]"
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1
RUN mkdir --parents /home/ray/safesweep
WORKDIR /home/ray/safesweep
RUN test -z "$EXTRAS" || (sudo apt-get update && sudo apt-get install --yes --no-install-recommends gcc g++)
COPY --chown=ray:users . .
# uv alone can override the pins of dsrl and safety-gymnasium ([tool.uv] in pyproject.toml).
RUN pip install uv
RUN uv pip install --python "$(command -v python)" --constraint constraints.txt ".${EXTRAS}"
WORKDIR /home/ray
RUN safesweep --version && python -c "import ray; assert ray.__version__ == '2.60.0', ray.__version__"
