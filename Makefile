# make app, make test: each sets up what is missing first. Needs Python 3.11 or newer with pip, and make.
PYTHON ?= python3
VENV ?= .venv
# of pip: "lowest-direct" installs the oldest of what pyproject.toml names (make test-lowest)
RESOLUTION ?= highest
BIN := $(VENV)/bin
export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: app test test-lowest fuzz audit lint docs wheel picture readme bench bench-compare checkpoints findings browser clean

app: $(VENV)/.ready
	$(BIN)/python app.py

test: $(VENV)/.ready-dev browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --nbmake --nbmake-timeout=600 tests notebooks

# at the lower ends of all ranges, in an environment of its own: make test-lowest PYTHON=python3.12
test-lowest:
	$(MAKE) test VENV=.venv-lowest-$(notdir $(PYTHON)) RESOLUTION=lowest-direct

# what `make test` tries of broken files, many times over: make fuzz CASES=20000
fuzz: $(VENV)/.ready-dev
	ROADTRIP_FUZZ=$(or $(CASES),5000) $(BIN)/python -m pytest -q tests/test_fuzz.py

# known weaknesses of what is installed
audit: $(VENV)/.ready-dev
	$(BIN)/python -m scripts.audit

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the reference, from docstrings, into build/docs
docs: $(VENV)/.ready-dev
	$(BIN)/python -W error::UserWarning -m pdoc --docformat google --output-directory build/docs roadtrip '!roadtrip.checkpoints'

# the moving picture at the top of the README, from the networks that ship
picture: $(VENV)/.ready
	$(BIN)/python -m scripts.picture

# the README's own commands, one by one; make test and what depends on a person's machine excepted
readme: $(VENV)/.ready-dev
	$(BIN)/python -m scripts.readme

# builds the wheel, installs it alone into an empty environment, and trains and drives there
wheel: $(VENV)/.ready-dev
	rm -rf build/lib build/wheel && $(BIN)/python -m build --wheel --outdir build/wheel
	$(PYTHON) -m venv --clear build/wheel/venv
	$(BIN)/python -m uv pip install --quiet --python build/wheel/venv/bin/python build/wheel/*.whl
	cd build/wheel && venv/bin/roadtrip train --film scenery --size 48x80 --seconds 10 --out run \
	&& venv/bin/roadtrip rollout --checkpoint v4 --film scenery --horizon 64 --out v4.mp4 \
	&& venv/bin/roadtrip measure --checkpoint run --film scenery --size 48x80 --horizon 16

bench: $(VENV)/.ready
	$(BIN)/python -m bench $(if $(JSON),--json $(JSON))

bench-compare: $(VENV)/.ready
	$(BIN)/python -m bench.compare $(OLD) $(NEW)

# makes the checkpoints that ship with the app again, runs of the study picked by rule, where they are missing
checkpoints: $(VENV)/.ready
	$(BIN)/python -m scripts.checkpoints

# the study's prose, tables and figures, from checkpoints/results.json alone; figures need Chromium or Chrome
findings: $(VENV)/.ready-dev
	$(BIN)/python -m scripts.findings

# uv for speed, and for --resolution: it reads the same ranges and index as pip
install = { test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); } && $(BIN)/python -m pip install --quiet uv && \
	$(BIN)/python -m uv pip install --quiet --resolution $(RESOLUTION) --python $(BIN)/python -e

$(VENV)/.ready: pyproject.toml
	$(install) ".[app,heic]"
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(install) ".[dev]"
	touch $@

# the browser tests drive Debian's Chromium, or any that is on the PATH; without one they skip and say so
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
	|| echo "No Chromium here and none could be installed: the browser tests will skip."

clean:
	rm -rf $(VENV) .venv-lowest-* build runs
