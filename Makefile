# All set-up included, on a fresh Debian or Ubuntu machine:
#   make demo    meta-train cheetah_vel in the quick preset, a quarter shorter, then adapt to its held-out targets,
#                with m drawn once an episode, as PEARL does, and with m drawn anew at every decision
#   make test    style, types, import contract and tests; SLOW=1 adds the long ones
#
# Everything Python goes into .venv. PYTHON=python3.12 picks another interpreter than the first that is new enough.

SYSTEM_PACKAGES := python3-venv libegl1 libopengl0 libgl1-mesa-dri
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON = $(shell for python in python3 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: setup demo test system

setup: .venv/ready

demo: setup
	.venv/bin/metaslac meta-train --family cheetah_vel --preset quick --updates 6000 --run-dir runs/demo
	.venv/bin/metaslac adapt --checkpoint runs/demo --episodes 2
	.venv/bin/metaslac adapt --checkpoint runs/demo --episodes 2 --redraw-every 1

# The tests compare the pictures of both software renderers and look at the report in a browser.
test: SYSTEM_PACKAGES += libosmesa6 chromium chromium-driver
test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest -n 2 --dist worksteal $(if $(SLOW),-m "slow or not slow")

.venv/ready: setup.py constraints.txt | system
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

# Renders in software without a GPU; a system without apt is left as it is.
system:
	@command -v apt-get >/dev/null || exit 0; \
	missing=$$(for package in $(SYSTEM_PACKAGES); do dpkg -s $$package >/dev/null 2>&1 || echo $$package; done); \
	[ -z "$$missing" ] || { $(SUDO) apt-get update -q && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; }
