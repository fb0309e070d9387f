# Two commands on a fresh machine: `make demo` and `make test`. Everything installs into .venv.
PYTHON ?= python3
ENV := .venv/bin
DATASET ?=
TEST ?= test

.PHONY: help setup test demo soak clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

setup:  ## install what is missing into .venv; PYTHON=python3.12 picks the interpreter
	@$(PYTHON) ros_from_pypi/setup_env.py

# Pytest plug-ins of a sourced ROS distribution are left out: they are made for other pytest versions.
test: setup  ## run all tests; TEST=test/geometry runs a part
	@PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(ENV)/python -m pytest -p pytest_timeout --durations=10 $(TEST)

demo: setup  ## play the demo clip through the node and print the scores; DATASET=folder plays a BOP dataset, MODE=track follows
	@$(ENV)/flowpose demo $(if $(DATASET),--dataset "$(DATASET)") $(if $(MODE),--mode "$(MODE)")

soak: setup  ## the node under a camera that fails at random, for HOURS (default: ten minutes); not part of `make test`
	@$(ENV)/python test/soak.py $(if $(HOURS),--hours "$(HOURS)")

clean:  ## remove .venv and what builds have left
	rm -rf .venv build install log *.egg-info ros_from_pypi/adapters/*.egg-info
