# The demo in a container: no compiler, no GPU, no root.
#   docker build -t pe_dense .
#   docker run --rm pe_dense                    trains for about six minutes on two cores, prints the table
#   docker run --rm pe_dense pe-dense --help
# Keep what a run writes: -v pe_dense_work:/home/user/work. Versions are those of tools/setup_steps/versions.py.
FROM python:3.11-slim

COPY setup.py pyproject.toml README.md LICENSE MANIFEST.in /src/
COPY pe_dense /src/pe_dense
COPY tools /src/tools
COPY configs /src/configs
COPY benchmarks/protocols.json /src/benchmarks/protocols.json

# torch's CPU build is a tenth of the size of the other one. Two packages bring OpenCV; only the
# headless one is loaded without libGL, and the one that is installed last counts.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu "/src[tested]" \
    && pip list --format=freeze > /src/installed.txt \
    && pip install --no-cache-dir --force-reinstall --no-deps --constraint /src/installed.txt opencv-python-headless \
    && rm -r /src

RUN useradd --create-home user && install --directory --owner user /home/user/work
USER user
WORKDIR /home/user/work

CMD ["pe-dense", "demo"]
