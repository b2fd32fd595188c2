# The first target that needs .venv makes it; PYTHON=... names another interpreter (3.11 or newer) to make it with.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := src tests benchmarks tools
LISTS := pyproject.toml constraints.txt hashes.txt tools/install.py

# The checks never use the network, and their small tensors gain nothing from threads. Where something else is at work beside,
# threads that wait for work by spinning take its time and their own. Python keeps what it compiles, for pip leaves that to it.
test: export HF_HUB_OFFLINE := 1
test: export OMP_NUM_THREADS := 1
demo test: export OMP_WAIT_POLICY := PASSIVE
demo test: export GOMP_SPINCOUNT := 0
demo test: export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint bench fuzz soak kills clean

demo: .venv/.demo
	@$(BIN)/phosphene report --quick -o out/demo
	@echo "The page is $(CURDIR)/out/demo/index.html"

test: lint
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: .venv/.ready
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/ruff format --quiet --check $(SOURCES)

# What this machine can measure, into benchmarks/RESULTS.md. MNIST is taken from PHOSPHENE_DATA or downloaded. Options for
# every script: make bench OPTIONS='--data DIR'; what was measured elsewhere: make bench OPTIONS='--merge FILE'
bench: .venv/.ready
	@$(BIN)/python benchmarks/results.py $(OPTIONS)

# Damaged files for each reader, so many minutes each: make fuzz MINUTES=1 OPTIONS='pictures idx'
MINUTES ?= 10
fuzz: .venv/.ready
	@$(BIN)/python tools/fuzz.py --minutes $(MINUTES) $(OPTIONS)

# So many clients for so many seconds against a studio of its own
CLIENTS ?= 200
SECONDS ?= 60
soak: .venv/.ready
	@$(BIN)/python tools/soak.py --clients $(CLIENTS) --seconds $(SECONDS) $(OPTIONS)

# So many kills of each of two trainings, taken up again and compared
KILLS ?= 20
kills: .venv/.ready
	@$(BIN)/python tools/kills.py --kills $(KILLS) $(OPTIONS)

# What was made by the targets above; pictures, runs and the environment stay.
clean:
	@rm -rf build dist out/demo src/*.egg-info .pytest_cache .ruff_cache .hypothesis
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# The demo needs less than the checks; an environment made for the checks does for both.
.venv/.demo: $(LISTS)
	@$(call install,train)
	@touch $@

.venv/.ready: $(LISTS)
	@$(call install,dev)
	@touch .venv/.demo $@

# From files alone whose sums stand in hashes.txt
define install
echo "Installing phosphene and what it needs into .venv (once; it takes minutes)..."
test -x $(BIN)/pip || $(PYTHON) -m venv .venv
$(BIN)/python tools/install.py $(1)
endef
