# Tools, pinned: they run as `go run module@version` and are no part of go.mod.
GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   = golang.org/x/vuln/cmd/govulncheck@v1.9.0

# Settings, to be given on the command line.
GOTESTFLAGS =
FUZZTIME    = 30s
ARCH        = $(shell go env GOARCH)

FUNCTIONS = auth jobs worker

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

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

.PHONY: tidy
tidy: ## Check that go.mod and go.sum hold what is used, and no more
	go mod tidy -diff

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

.PHONY: bench
bench: ## Verification of tokens and the authorizer beside bare crypto, as ratios
	go test -run '^$$' -bench . -benchmem .

.PHONY: functions
functions: $(FUNCTIONS:%=dist/%/bootstrap) ## Build the Lambda functions into dist/<function>/bootstrap (ARCH=arm64, amd64)

# Always: go build knows best what is out of date.
.PHONY: $(FUNCTIONS:%=dist/%/bootstrap)
$(FUNCTIONS:%=dist/%/bootstrap): dist/%/bootstrap:
	CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) go build -tags lambda.norpc -trimpath -ldflags '-s -w' -o $@ ./bootstrap/cmd/$*

.PHONY: check
check: ## Run what CI runs
	.ci/run
