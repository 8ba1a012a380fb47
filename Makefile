# Danqing. `make` alone lists what there is. Every path is relative, so the tree may stand anywhere.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

HOST ?= 127.0.0.1
PORT ?= 7860
DATA ?= ./data
PYTHON ?=
TORCH_INDEX ?=
MINUTES ?= 110
export PYTHON TORCH_INDEX

BIN := .venv/bin

.PHONY: help setup run test lint format bench soak mini lock clean

help: ## list the targets
	@printf 'Danqing 丹青\n\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS='	' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done
	@printf '\n  HOST=%s PORT=%s DATA=%s   where run listens and keeps its files\n' '$(HOST)' '$(PORT)' '$(DATA)'
	@printf '  MINUTES=%s   how long mini trains\n' '$(MINUTES)'
	@printf '  PYTHON=...   the Python (3.11 or newer) that setup builds on; found by itself when empty\n'
	@printf '  TORCH_INDEX=URL   take torch from that package index, such as the one with builds for CPUs only\n'

setup: ## make .venv with everything that Danqing needs (quick when nothing changed)
	@sh tools/setup.sh

run: setup ## start Danqing on HOST:PORT with its files under DATA
	@exec $(BIN)/danqing serve --host '$(HOST)' --port '$(PORT)' --data '$(DATA)'

test: setup ## run every test that this machine can run, after lint
	@$(BIN)/python tools/check.py

lint: setup ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup ## let ruff put the code in order
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: setup ## run the benchmarks: tables here, JSON files in bench/out/
	@$(BIN)/python -m bench

soak: setup ## 200 kills of web and engine under load, every other fault, then 2,000 jobs of mixed kinds: nothing may be lost (hours)
	@$(BIN)/python -m bench.faults --kills 200 --jobs 2000

mini: setup ## train danqing-mini, the miniature model, again under DATA/mini (goes on where it was stopped)
	@$(BIN)/python -m danqing.mini train --out '$(DATA)/mini' --minutes '$(MINUTES)' --resume
	@$(BIN)/python -m danqing.mini export --out '$(DATA)/mini' --to '$(DATA)/mini/export'
	@$(BIN)/python -m danqing.mini judge --weights '$(DATA)/mini/export/danqing-mini.safetensors'

lock: ## resolve the dependencies anew and write constraints.txt
	@sh tools/lock.sh

# -- AWS: `danqing cloud --help` has more options; ENDPOINT names an emulator --

REGION ?=
ENDPOINT ?=
NAME ?= danqing
TYPE ?= g5.xlarge
CIDR ?=
KEY ?=
IMAGE ?=
DATA_GB ?= 0
WAIT ?= 20
KEEP ?= 3
WHERE = $(if $(REGION),--region '$(REGION)') $(if $(ENDPOINT),--endpoint '$(ENDPOINT)')
CLOUD := $(BIN)/python -m danqing.cloud

.PHONY: launch status start stop terminate images share

launch: setup ## start a box on AWS: TYPE, CIDR (who may open it), DATA_GB, KEY, SPOT=1, REPLACE=1, IMAGE, SUBNET, REGION
	@$(CLOUD) launch --name '$(NAME)' --type '$(TYPE)' --cidr '$(CIDR)' --key '$(KEY)' --image '$(IMAGE)' --data '$(DATA_GB)' \
	  --minutes '$(WAIT)' $(if $(SUBNET),--subnet '$(SUBNET)') $(if $(SPOT),--spot) $(if $(REPLACE),--replace) $(LAUNCH) $(WHERE)

status: setup ## the boxes on AWS: state, address, readiness, cost
	@$(CLOUD) status $(WHERE)

start: setup ## start a stopped box again: NAME, REGION
	@$(CLOUD) start --name '$(NAME)' --minutes '$(WAIT)' $(WHERE)

stop: setup ## stop a box, keeping its disks: NAME, REGION
	@$(CLOUD) stop --name '$(NAME)' $(WHERE)

terminate: setup ## end a box for good, after asking; its data volume stays: NAME, REGION, YES=1
	@$(CLOUD) terminate --name '$(NAME)' $(if $(YES),--yes) $(WHERE)

images: setup ## list the images; CLEAN=1 shows which are old (KEEP=3 stay), CLEAN=1 YES=1 removes them
	@$(CLOUD) $(if $(CLEAN),clean --keep '$(KEEP)' $(if $(YES),--yes),images) $(WHERE)

share: setup ## copy and share an image: IMAGE, ACCOUNTS, ORGANISATIONS, REGIONS, PARAMETER (lists with commas)
	@$(CLOUD) share --image '$(IMAGE)' --accounts '$(ACCOUNTS)' --organisations '$(ORGANISATIONS)' --regions '$(REGIONS)' \
	  --parameter '$(PARAMETER)' $(WHERE)

# -- the image: Packer's template in packer/, Ansible's roles in ansible/ --

BASE ?= focal-pytorch-1.13
BOX_PORT ?= 8080
AMI := $(BIN)/python tools/ami.py
AMI_GIVEN = --base '$(BASE)' --region '$(or $(REGION),us-east-1)' --regions '$(REGIONS)' --accounts '$(ACCOUNTS)' \
  --organisations '$(ORGANISATIONS)' --units '$(UNITS)' --models '$(MODELS)' --mirror '$(MODEL_MIRROR)' --kms '$(KMS)' \
  --profile '$(PROFILE)' --subnet '$(SUBNET)' $(if $(SPOT),--spot) $(if $(ENCRYPT),--encrypt) $(if $(SSM),--session-manager) \
  $(if $(MARKETPLACE),--marketplace) $(if $(ACCEPT_LICENSES),--accept-licenses) $(if $(PROTECT),--protect) -- $(PACKER)
BOXLAB := PYTHONPATH=tools $(BIN)/python -m boxlab

.PHONY: ami ami-plan box box-down box-password box-shell boxsetup

boxsetup: setup
	@$(BIN)/python -c 'import ansible, hcl2, moto.server, testinfra' 2>/dev/null || \
	  $(BIN)/python -m pip -q --disable-pip-version-check install -c constraints.txt -e '.[box]'

ami: boxsetup ## bake the AMI: BASE, REGION, REGIONS, ACCOUNTS, ORGANISATIONS, SPOT=1, ENCRYPT=1, KMS, SSM=1, MARKETPLACE=1
	@$(AMI) build $(AMI_GIVEN)

ami-plan: setup ## what `make ami` would do, how long it takes and what it costs; needs no credentials
	@$(AMI) plan $(AMI_GIVEN)

box: boxsetup ## bake the image here, on an emulated AWS, and serve it on 127.0.0.1:BOX_PORT (root; FRESH=1 bakes anew)
	@$(BOXLAB) up --port '$(BOX_PORT)' $(if $(FRESH),--fresh)

box-down: ## remove the box of `make box` without a trace
	@$(BOXLAB) down

box-password: ## the password of the box of `make box`
	@$(BOXLAB) shell danqing box password

box-shell: ## a shell on the box of `make box`
	@$(BOXLAB) shell

clean: ## remove .venv, caches and what the benchmarks wrote; DATA stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist bench/out app/*.egg-info
	@find app tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +
