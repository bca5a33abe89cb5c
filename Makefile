# make app, make test: each sets up what is missing first. Needs Python 3.11 or newer with pip, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: app test lint bench bench-compare checkpoints findings browser clean

app: $(VENV)/.ready
	$(BIN)/python app.py

test: $(VENV)/.ready-test browser
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 tests notebooks

lint: $(VENV)/.ready-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready
	$(BIN)/python -m bench $(if $(JSON),--json $(JSON))

bench-compare: $(VENV)/.ready
	$(BIN)/python -m bench.compare $(OLD) $(NEW)

# makes the checkpoints that ship with the app again, runs of the study picked by rule, where they are missing
checkpoints: $(VENV)/.ready
	$(BIN)/python -m scripts.checkpoints

# the study's prose, tables and figures, from checkpoints/results.json alone; figures need Chromium or Chrome
findings: $(VENV)/.ready
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -e ".[findings]"
	$(BIN)/python -m scripts.findings

# uv only for speed: it reads the same requirements and index as pip
$(VENV)/.ready: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -e .
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -e ".[test]"
	touch $@

$(VENV)/.ready-lint: $(VENV)/.ready
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -e ".[lint]"
	touch $@

# the browser tests drive Debian's Chromium, or any that is on the PATH; without one they skip and say so
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
	|| echo "No Chromium here and none could be installed: the browser tests will skip."

clean:
	rm -rf $(VENV) runs
