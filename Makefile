# mcphub. `make help` lists the targets.

GO       ?= go
ADDRESS  ?= 127.0.0.1:7788
ADMIN    ?= 127.0.0.1:7789
DATA_DIR ?= .mcphub

# What is installed for tests lies in .cache, below the checkout.
TOOLS := $(CURDIR)/.cache/tools

LINT_VERSION := v2.15.0
NODE_VERSION := 24.21.0

# What the end-to-end tests of the telemetry read it with.
PROMETHEUS_VERSION := v0.315.0
JAEGER_VERSION     := v1.76.0

# The conformance suite: the release, and the version that knows 2026-07-28.
SUITE_VERSION      := 0.1.16
NEXT_SUITE_VERSION := 0.2.0-alpha.12

LINT  := $(TOOLS)/golangci-lint-$(LINT_VERSION)
NODE  := $(TOOLS)/node/bin/node
INDEX := node_modules/@modelcontextprotocol/conformance/dist/index.js

PROMETHEUS := $(TOOLS)/prometheus-$(PROMETHEUS_VERSION)
PROMTOOL   := $(TOOLS)/promtool-$(PROMETHEUS_VERSION)
JAEGER     := $(TOOLS)/jaeger-$(JAEGER_VERSION)

# Real servers and clients, at the versions of test/real/package-lock.json.
REAL := $(TOOLS)/real

SUITE      := $(TOOLS)/conformance-$(SUITE_VERSION)/$(INDEX)
NEXT_SUITE := $(TOOLS)/conformance-$(NEXT_SUITE_VERSION)/$(INDEX)

.DEFAULT_GOAL := help
.PHONY: help run build test check fmt vet lint race cost rules hostile conformance docs clean
.PHONY: e2e e2e-traces e2e-real chromium nightly soak isolation bench fuzz

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build and start the hub with the example configuration
	@exec bin/mcphub serve --config examples/mcphub.yaml --listen $(ADDRESS) --admin-listen $(ADMIN) --data-dir $(DATA_DIR) --banner always

build: ## build bin/mcphub
	@echo "Compiling bin/mcphub. The first time, this takes two to three minutes without output; later, seconds."
	@start=$$(date +%s); $(GO) build -trimpath -o bin/mcphub ./cmd/mcphub && \
	  echo "Compiled in $$(($$(date +%s) - start)) s."

test: vet race cost rules conformance hostile ## set up what the tests need and run all of them

check: fmt vet lint race cost ## format, vet, lint, tests with -race

fmt: ## fail if a file is not formatted
	@files=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$files" ]; then echo "not formatted:"; echo "$$files"; exit 1; fi

vet: fmt ## go vet
	$(GO) vet ./...

lint: $(LINT) ## golangci-lint, installed on first use
	$(LINT) run ./...

race: ## all Go tests with the race detector
	$(GO) test -race -shuffle=on -timeout 10m ./...

cost: ## what telemetry allocates for each call; the race detector would change that
	$(GO) test -count=1 -run 'Allocates?(NoMoreThanItMay|Nothing)' ./pkg/gateway ./pkg/upstream ./pkg/instrument ./pkg/telemetry

rules: ## check the Prometheus rules with promtool
	bash deploy/prometheus/check.sh

hostile: ## a hub with 256 MiB and 256 descriptors is attacked for a minute beside clients who mean well
	MCPHUB_HOSTILE=60s $(GO) test -count=1 -v -timeout 5m ./test/hostile

conformance: $(NODE) $(SUITE) $(NEXT_SUITE) ## run the official MCP conformance suites through the hub
	MCPHUB_NODE=$(NODE) MCPHUB_CONFORMANCE=$(SUITE) MCPHUB_CONFORMANCE_NEXT=$(NEXT_SUITE) \
	  $(GO) test -count=1 -v -timeout 15m -run '^TestConformance' ./test/conformance

e2e: $(PROMETHEUS) $(PROMTOOL) ## a real Prometheus scrapes the hub; compiles it on first use, which takes minutes
	MCPHUB_PROMETHEUS=$(PROMETHEUS) MCPHUB_PROMTOOL=$(PROMTOOL) \
	  $(GO) test -count=1 -v -timeout 5m -run '^TestPrometheus|AlertsUntilItCan$$' ./test/metrics

e2e-traces: $(JAEGER) ## a real Jaeger receives the spans of two hubs; compiles it on first use, which takes minutes
	MCPHUB_JAEGER=$(JAEGER) \
	  MCPHUB_SPANS_LOAD=60s $(GO) test -count=1 -v -timeout 5m -run '^TestOneTrace|NoLiveSpan$$' ./test/spans

e2e-real: $(NODE) $(REAL)/installed chromium ## real servers and clients from npm; writes docs/compatibility.md
	MCPHUB_NODE=$(NODE) MCPHUB_REAL=$(REAL) MCPHUB_CHROMIUM="$$($(FIND_CHROMIUM))" \
	  $(GO) test -count=1 -v -timeout 30m -parallel 2 -run '^TestRealClients' ./test/real
	$(GO) test -count=1 -v -timeout 5m ./test/browser

PARTS ?=
nightly: ## everything too slow for CI, each part with a time budget; PARTS="soak fuzz" runs some
	@mkdir -p $(TOOLS) && $(GO) build -o $(TOOLS)/nightly ./test/nightly
	@exec $(TOOLS)/nightly -out out/nightly $(PARTS)

docs: ## write docs/metrics.md, deploy/metrics.txt and the tables of docs/configuration.md
	$(GO) test -count=1 -run TestTheMetricsDocument ./test/metrics -update
	$(GO) test -count=1 -run TestTablesOfTheDocument ./pkg/config -update

soak: ## kill the hub a hundred times under load and count what is lost
	MCPHUB_SOAK_ROUNDS=100 $(GO) test -count=1 -v -timeout 30m -run 'LostByKill9' ./test/crash

isolation: ## 100,000 calls of 64 clients, none of which may get what is another's
	MCPHUB_ISOLATION_CALLS=100000 $(GO) test -race -count=1 -v -timeout 30m -run 'NothingOfOneCall' ./pkg/gateway

bench: ## benchmarks of the hot paths
	$(GO) test -run '^$$' -bench . -benchmem ./pkg/...

FUZZTIME ?= 20s
fuzz: ## run every fuzz test for FUZZTIME
	@for pkg in $$($(GO) list ./pkg/...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg || exit 1; \
	  done; done

clean: ## remove what was built and installed
	rm -rf bin .cache

# golangci-lint compiles for minutes the first time; it is installed once.
$(LINT):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv $(TOOLS)/golangci-lint $@

# Prometheus and Jaeger compile for minutes the first time. Replacements in their
# modules keep go install from them, so they are built where they were downloaded.
define compile # module@version, package, flags
	@mkdir -p $(TOOLS)
	cd "$$($(GO) mod download -json $(1) | sed -n 's/^\t"Dir": "\(.*\)",*$$/\1/p')" && \
	  GOWORK=off CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' $(3) -o $@ $(2)
endef

$(PROMETHEUS):
	$(call compile,github.com/prometheus/prometheus@$(PROMETHEUS_VERSION),./cmd/prometheus,-tags remove_all_sd)

$(PROMTOOL):
	$(call compile,github.com/prometheus/prometheus@$(PROMETHEUS_VERSION),./cmd/promtool,-tags remove_all_sd)

$(JAEGER):
	$(call compile,github.com/jaegertracing/jaeger@$(JAEGER_VERSION),./cmd/all-in-one)

# The suite and the real clients need Node.js 22 or later: the one of the system if it is, or one of its own.
$(NODE):
	@mkdir -p $(dir $@)
	@if node -e 'process.exit(process.versions.node.split(".")[0] >= 22 ? 0 : 1)' 2>/dev/null; then \
	  ln -sf "$$(command -v node)" $@; \
	elif command -v npm >/dev/null; then \
	  npm install --silent --no-audit --no-fund --prefix $(TOOLS)/node node@$(NODE_VERSION) && \
	  ln -sf "$$(find $(TOOLS)/node/node_modules -path '*/bin/node' -type f | head -n 1)" $@; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends npm && $(MAKE) $@; \
	else \
	  echo "The conformance suite and the real clients need Node.js 22 or later with npm; install it and run make again." >&2; exit 1; \
	fi
	@$@ --version

# Not npm ci: a locked package has an optional one, for Windows, that no registry may have.
$(REAL)/installed: test/real/package.json test/real/package-lock.json $(NODE)
	@mkdir -p $(REAL)
	cp test/real/package.json test/real/package-lock.json $(REAL)
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(REAL)
	@touch $@

FIND_CHROMIUM := command -v chromium || command -v chromium-browser || command -v google-chrome || true

# Debian's browser, for playwright-mcp and for pages. Without it their rows are left out.
chromium:
	@if [ -z "$$($(FIND_CHROMIUM))" ]; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; \
	  else \
	    echo "There is no Chromium: what needs it is skipped, and docs/compatibility.md stays as it is. Install chromium."; \
	  fi; fi

$(TOOLS)/conformance-%/$(INDEX): $(NODE)
	npm install --silent --no-audit --no-fund --prefix $(TOOLS)/conformance-$* @modelcontextprotocol/conformance@$*
	@touch $@
