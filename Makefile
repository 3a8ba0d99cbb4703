# Shortcuts for the containers; each prints what it runs. docs/docker.md explains them.

COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
DEV := $(COMPOSE) -f docker-compose.yaml -f docker-compose.dev.yaml

.PHONY: help env up dev down test

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST)

env: ## make .env with strong secrets; what is set already stays
	@if command -v go >/dev/null; then set -x; go run ./cmd/quickthorn init; \
	else set -x; docker build --target runtime --tag quickthorn:local . && docker run --rm --user "$$(id -u):$$(id -g)" --volume "$(CURDIR):/etc/quickthorn" quickthorn:local init; fi

up: env ## build and start everything
	$(COMPOSE) up --detach --build

dev: env ## the same with live reload, in the foreground
	$(DEV) up --build

down: ## stop everything and remove the containers; data stays
	$(DEV) down

test: ## check the container files, without an engine
	cd test/compose && go test ./...
