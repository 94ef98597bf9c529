# SPDX-License-Identifier: Apache-2.0
# make run, make test: each does all its own set-up, in .venv of this checkout.
PYTHON ?= python3
VENV   := .venv
STAMP  := $(VENV)/.ready
ARGS   ?=
KERNEL ?= 6.12
MAPS   ?= 60
PAIRS  ?= 60
HOSTS  ?= 1000
SEED   ?= 1
STRATEGY ?= memory-regions
SECONDS ?= 60

.PHONY: help run demo plan test golden docs faults-page lint clean \
  kernel-test boot-pairs remedy-test remedy-search vm-test reboot-test package-test python-test \
  ansible-test container-test kubernetes-test prometheus-test dashboard-test \
  release bench journal-bench fuzz soak scale-bench
.DEFAULT_GOAL := help

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 17

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "tdx-headroom needs Python 3.11 or later as $(PYTHON): install it, or say make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "tdx-headroom needs Python's venv module: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

run: $(STAMP) ## serve this host's headroom on port 10110, until Ctrl-C
	@exec $(VENV)/bin/tdx-headroom serve $(ARGS)

demo: $(STAMP) ## serve a captured host on which TDX fails
	@exec $(VENV)/bin/tdx-headroom demo $(ARGS)

plan: $(STAMP) ## show this host's plan
	@$(VENV)/bin/tdx-headroom plan $(ARGS)

test: $(STAMP) ## all tests in several processes, ruff, mypy --strict, the architecture test
	@# Hundreds of agents are started, each of which would else compile the program anew.
	@PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest --numprocesses auto $(ARGS)

kernel-test: $(STAMP) ## the plan against a real kernel in QEMU: KERNEL=6.12|7.3 MAPS=n SEED=n STRATEGY=name
	@$(VENV)/bin/python -m tests.kernel --kernel $(KERNEL) --maps $(MAPS) --seed $(SEED) --strategy $(STRATEGY) $(ARGS)

boot-pairs: $(STAMP) ## what one boot foretells of the next, in QEMU: KERNEL=6.12|7.3 PAIRS=n SEED=n
	@$(VENV)/bin/python -m tests.kernel.boot_pairs --kernel $(KERNEL) --pairs $(PAIRS) --seed $(SEED) $(ARGS)

remedy-test: $(STAMP) ## what the agent offers on maps that fail, booted, in QEMU: KERNEL=6.12|7.3 MAPS=n SEED=n STRATEGY=name
	@$(VENV)/bin/python -m tests.kernel.remedies --kernel $(KERNEL) --maps $(MAPS) --seed $(SEED) --strategy $(STRATEGY) $(ARGS)

remedy-search: $(STAMP) ## the search for memory to give up against all sets of three: MAPS=n SEED=n STRATEGY=name
	@$(VENV)/bin/python -m tests.kernel.brute_force --maps $(MAPS) --seed $(SEED) --strategy $(STRATEGY)

vm-test: $(STAMP) ## the package under real systemd in QEMU (Debian 13 and 12); not part of make test
	@$(VENV)/bin/python -m tests.vm $(ARGS)

reboot-test: $(STAMP) ## guests with GRUB and systemd-boot are rebooted: does the foretold boot come?
	@$(VENV)/bin/python -m tests.reboots $(ARGS)

package-test: $(STAMP) ## the Debian package on fresh Debian 13 and 12; needs root
	@$(VENV)/bin/python -m tests.packaging.fresh $(ARGS)

container-test: $(STAMP) ## the image, built and run by podman or docker as docs/container.md says; needs root
	@$(VENV)/bin/python -m tests.container $(ARGS)

kubernetes-test: $(STAMP) ## the manifests on a real node, made here, as docs/kubernetes.md says; needs root
	@$(VENV)/bin/python -m tests.kubernetes $(ARGS)

ansible-test: $(STAMP) ## the Ansible role on a fresh Debian 13 under systemd; needs root
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --group ansible
	@$(VENV)/bin/python -m tests.ansible $(ARGS)

prometheus-test: $(STAMP) ## rules, rule tests and examples under Prometheus 2 and 3, and vmalert; needs root once
	@$(VENV)/bin/python -m tests.prometheus $(ARGS)

dashboard-test: $(STAMP) ## both dashboards drawn by Grafana's own components; ARGS=--pictures writes docs/dashboards
	@$(VENV)/bin/python -m tests.dashboards $(ARGS)

python-test: $(STAMP) ## unit, golden and fault tests under Debian's newest Python, as a plain user; needs root
	@$(VENV)/bin/python -m tests.python $(ARGS)

release: $(STAMP) ## sdist, wheel, .deb, .rpm and SHA256SUMS in dist/; ARGS=--check makes them twice and compares
	@$(VENV)/bin/python packaging/release.py $(ARGS)

bench: $(STAMP) ## how fast and small the agent is, beside peers; not part of make test
	@$(VENV)/bin/python -m tests.bench $(ARGS)

journal-bench: $(STAMP) ## what an agent's first start costs on a host with a journal of 500 MB, as root
	@$(VENV)/bin/python -m tests.bench.journal $(ARGS)

fuzz: $(STAMP) ## fuzz every parser, SECONDS=60 each; not part of make test
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --group fuzz
	@$(VENV)/bin/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

soak: $(STAMP) ## two agents under constant trouble for 30 minutes, as root; not part of make test
	@$(VENV)/bin/python -m tests.soak --svg docs/dev/soak.svg $(ARGS)

scale-bench: $(STAMP) ## what a fleet costs Prometheus, or VictoriaMetrics: HOSTS=1000; docs/prometheus.md
	@$(VENV)/bin/python -m tests.scale --hosts $(HOSTS) $(ARGS)

golden: $(STAMP) ## rewrite the outputs of captured hosts from what the code says now; read the diff
	@$(VENV)/bin/python -m pytest -q tests/golden -k as_recorded --rewrite-golden $(ARGS)

docs: $(STAMP) ## rewrite what is made from the code's tables: pages of docs/, dashboards, rules for Kubernetes
	@$(VENV)/bin/python -m tests.tools.make_docs
	@$(VENV)/bin/python -m tests.tools.make_rule_object
	@$(VENV)/bin/python -m tests.grafana

faults-page: $(STAMP) ## rewrite docs/reliability.md from what the agent does under every fault; minutes, as root
	@$(VENV)/bin/python -m pytest tests/integration --rewrite-golden $(ARGS)

lint: $(STAMP) ## only ruff and mypy
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

clean: ## remove what make has made
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
