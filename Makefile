# Tools, pinned: they run as `go run module@version` and are no part of go.mod.
GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   = golang.org/x/vuln/cmd/govulncheck@v1.9.0

# Settings, to be given on the command line.
GOTESTFLAGS =
FUZZTIME    = 30s
ARCH        = $(shell go env GOARCH)

FUNCTIONS = auth jobs worker
ARCHES    = arm64 amd64

# What decides about the bytes of a package is said here, and nothing is left to a builder's own environment.
PACKAGE_ENV = GOFLAGS= GOEXPERIMENT= GOAMD64=v1 GOARM64=v8.0 CGO_ENABLED=0 GOOS=linux

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Compile everything
	go build ./...

.PHONY: test
test: ## Run the tests (GOTESTFLAGS=-race, -short, -run=Name, …)
	go test $(GOTESTFLAGS) ./...

.PHONY: race
race: ## Run the tests with the race detector
	$(MAKE) test GOTESTFLAGS=-race

.PHONY: demo
demo: ## Log in, submit a job and watch it succeed, on free ports and a temporary directory
	go run ./bootstrap/cmd/local -demo

.PHONY: lint
lint: ## Run the linters
	go run $(GOLANGCI_LINT) run ./...

.PHONY: vet
vet: ## Run go vet
	go vet ./...
	go vet -tags lambda.norpc ./...
	cd testdata/peers && go vet ./...

.PHONY: tidy
tidy: ## Check that go.mod and go.sum hold what is used, and no more
	go mod tidy -diff
	cd testdata/peers && go mod tidy -diff

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what is called (skipped when their database cannot be had)
	@out=$$(go run $(GOVULNCHECK) ./... 2>&1) && { echo "$$out"; exit; }; \
	echo "$$out"; \
	if grep -q '^govulncheck: fetching vulnerabilities:' <<<"$$out"; \
	then echo 'vuln: SKIPPED, the database of vulnerabilities cannot be had'; \
	else exit 1; fi

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME
	@go test -list '^Fuzz' ./... | \
	awk '/^Fuzz/ { names[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, names[i]; n = 0 }' | \
	while read -r package name; do \
		echo "$$package $$name"; \
		go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$package" </dev/null; \
	done

.PHONY: mutate
mutate: ## Switch off each check of the token verifier in turn: some test has to fail (minutes)
	go test -run '^TestEveryCheckOfTheVerifierIsNeeded$$' -timeout 60m -v ./adapters/oidc -mutate

.PHONY: soak
soak: ## Kill, pause and fill up real processes while clients submit, 20 times each (half an hour)
	go test -run '^TestFaults$$' -count 1 -timeout 4h -v ./bootstrap/server -soak

# Without a package go test prints what comes while it runs.
.PHONY: bench
bench: ## The table of BENCHMARKS.md: jobgate beside floors and peers, each row held, short or undecided (minutes)
	go test -run '^TestFigures' -count 1 -figures $(or $(ROUNDS),7) -timeout 30m

.PHONY: bench-full
bench-full: ## The same with more rounds and full queues (an hour or so)
	go test -run '^TestFigures' -count 1 -figures $(or $(ROUNDS),15) -figures-full -timeout 180m

.PHONY: bench-depth
bench-depth: ## What a call of SQLite and PostgreSQL costs with 1,000,000 jobs stored, as a ratio to 1,000 (minutes, 2 GB)
	go test -run '^$$' -bench '^BenchmarkDepth$$' -benchtime 1x -timeout 30m ./adapters/sqlstore

.PHONY: functions
functions: $(FUNCTIONS:%=dist/%/bootstrap) ## Build the Lambda functions into dist/<function>/bootstrap (ARCH=arm64, amd64)

# Always: go build knows best what is out of date.
.PHONY: $(FUNCTIONS:%=dist/%/bootstrap)
$(FUNCTIONS:%=dist/%/bootstrap): dist/%/bootstrap:
	CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) go build -tags lambda.norpc -trimpath -ldflags '-s -w' -o $@ ./bootstrap/cmd/$*

.PHONY: package
package: ## Pack the functions as Lambda takes them: dist/<arch>/<function>.zip, and those for arm64 as dist/<function>.zip
	@for arch in $(ARCHES); do for function in $(FUNCTIONS); do \
		$(PACKAGE_ENV) GOARCH=$$arch go build -buildvcs=true -tags lambda.norpc -trimpath -ldflags '-s -w' \
			-o dist/$$arch/$$function/bootstrap ./bootstrap/cmd/$$function; \
		go run ./deployments/pack dist/$$arch/$$function/bootstrap dist/$$arch/$$function.zip; \
		if [ $$arch = arm64 ]; then cp dist/arm64/$$function.zip dist/$$function.zip; fi; \
	done; done

.PHONY: terraform-fmt
terraform-fmt: ## Check the format of the Terraform module and its examples
	terraform fmt -check -diff -recursive deployments/terraform

.PHONY: terraform-moto
terraform-moto: ## Validate, test and apply the Terraform module against moto_server (skipped when the AWS provider cannot be had)
	@cache=$$(mktemp -d); trap 'rm -rf "$$cache"' EXIT; export TF_PLUGIN_CACHE_DIR="$${TF_PLUGIN_CACHE_DIR:-$$cache}"; \
	go test -count=1 -parallel 1 -timeout 30m -v -run '^Test(TerraformValidatesModuleAndExamples|TerraformTests|ApplyAgainstMoto)$$' ./deployments -provider

.PHONY: check
check: ## Run what CI runs
	.ci/run
