# What you can do here; `make` alone lists it.
# The work is done by the `sluice` command in cli/; this file gives it short names.

PYTHON ?= python3
SLUICE := .venv/bin/python -m cli
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help up down restart status logs demo env test test-mysql proof postman mysql helm docs bench lint clean pins secrets bootstrap bootstrap-dev bootstrap-bench

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: bootstrap ## install what is missing, start everything, run the main job once
	@$(SLUICE) up

down: .venv/bin/python ## stop everything
	@$(SLUICE) down

restart: .venv/bin/python ## start the service anew, process by process, while it goes on serving
	@$(SLUICE) restart

status: .venv/bin/python ## show every process, its pid and its address
	@$(SLUICE) status

logs: .venv/bin/python ## follow all logs, or one with P=api
	@$(SLUICE) logs $(P)

demo: .venv/bin/python ## run the main job again: a task of six types, and a stopped insert
	@$(SLUICE) demo

env: .venv/bin/python ## print shell exports for scripts: eval "$(make env)"
	@$(SLUICE) env

# Tests mostly wait: for a lease to end, a server to come back. Two processes, each with servers of its own, wait together.
# The long ones begin, so that neither process is left with one of them at the end.
TWO := -n 2 --dist loadfile --no-loadscope-reorder tests/system tests/service tests/unit

test: bootstrap-dev ## check the code and run the tests, with servers of their own
	@$(MAKE) lint
	@.venv/bin/python -m pytest $(or $(ARGS),$(TWO))
	@$(if $(ARGS),,$(MAKE) test-mysql)

# Whatever speaks XA, with every database on MySQL.
MYSQL_TESTS := $(patsubst %,tests/service/test_%.py,xa resolve revoke packs migrations fitness roles)

test-mysql: bootstrap-dev ## run the tests of two-phase commit on the MySQL of `make mysql`, if it is there
	@if [ -x .sluice/mysql-server/usr/sbin/mysqld ]; \
	then .venv/bin/python -m pytest --databases mysql $(MYSQL_TESTS); \
	else echo "MySQL is not here, its tests are left out: make mysql brings it"; fi

proof: bootstrap-dev ## stop, kill and freeze writing tasks at the worst moments, and print what came of it
	@.venv/bin/python -m pytest tests/system/test_storm_*.py $(ARGS)

postman: .venv/bin/python ## run the Postman collection against the running stack (needs npm)
	@.venv/bin/python -m cli.newman

mysql: ## fetch a real MySQL server for the tests, into .sluice/mysql-server
	@$(PYTHON) -m cli.mysql_packages $(if $(OPTIONAL),--optional)

secrets: ## write the passwords and keys of docker-compose.yml, into .sluice-secrets
	@$(PYTHON) -m cli.containers.secrets

helm: bootstrap-dev ## fetch Helm for the tests of the chart, into .sluice/helm
	@.venv/bin/python -m cli.helm_package

docs: bootstrap-dev ## build the documentation as a site, into site/
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

bench: bootstrap-bench ## measure Sluice beside what people use instead; ARGS="--only drain --rounds 1"
	@.venv/bin/python -m tests.bench $(ARGS)

lint: bootstrap-dev ## ruff and mypy
	@.venv/bin/ruff check .
	@.venv/bin/mypy

clean: .venv/bin/python ## stop everything and remove the stack's data (asks; YES=1 does not)
	@$(SLUICE) down --wipe $(if $(YES),--yes)

pins: bootstrap-dev ## write requirements*.txt anew from requirements*.in
	@UV_CUSTOM_COMPILE_COMMAND="make pins" .venv/bin/uv pip compile --quiet --upgrade --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url requirements.in -o requirements.txt
	@UV_CUSTOM_COMPILE_COMMAND="make pins" .venv/bin/uv pip compile --quiet --upgrade --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url requirements-otel.in -o requirements-otel.txt
	@UV_CUSTOM_COMPILE_COMMAND="make pins" .venv/bin/uv pip compile --quiet --upgrade --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url requirements-dev.in -o requirements-dev.txt
	@UV_CUSTOM_COMPILE_COMMAND="make pins" .venv/bin/uv pip compile --quiet --upgrade --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url requirements-bench.in -o requirements-bench.txt

bootstrap:
	@$(PYTHON) -m cli.bootstrap

bootstrap-dev:
	@$(PYTHON) -m cli.bootstrap --dev

bootstrap-bench:
	@$(PYTHON) -m cli.bootstrap --dev --bench

.venv/bin/python:
	@echo "Nothing is set up here yet: make up" >&2; exit 1
