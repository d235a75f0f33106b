# `make` lists the targets.  Each sets up first what it needs; when nothing has changed that takes no time.

.DEFAULT_GOAL := help
.PHONY: help setup demo train nightly backfill airflow sql sql-server s3 pack ablations test test-slow lint format clean

SPARK_PYTHON := .venv/bin/python
AIRFLOW_PYTHON := .venv-airflow/bin/python

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Create .venv and .venv-airflow from the pinned requirements (MAKE_PYTHON=... names a Python 3.11 or 3.12).
	@sh scripts/setup.sh

demo: setup ## Generate a catalog in demo/, train, run two nights through Airflow, and show what came of it.
	@$(SPARK_PYTHON) -m scripts.demo

train: setup ## Run the make_training DAG over your data (DATE=..., PARAMS="epochs=3 window_days=14"; see README.md).
	@$(SPARK_PYTHON) -m scripts.run_dag make_training $(if $(DATE),--date $(DATE)) $(PARAMS)

nightly: setup ## Run the catalog_nightly DAG over your data (DATE=YYYY-MM-DD, default yesterday; see README.md).
	@$(SPARK_PYTHON) -m scripts.run_dag catalog_nightly $(if $(DATE),--date $(DATE))

backfill: setup ## Run the model_backfill DAG: embed, index, check, publish the model promoted last (DATE=YYYY-MM-DD).
	@$(SPARK_PYTHON) -m scripts.run_dag model_backfill $(if $(DATE),--date $(DATE))

sql: export MAKE_QUERY := $(value Q)
sql: setup ## Open a SQL prompt over the lake (MAKE_LAKE names it), or answer one query (Q="SELECT ...").
	@$(SPARK_PYTHON) -m jobs sql $(if $(value Q),query,prompt)

sql-server: setup ## Serve SQL on 127.0.0.1 to JDBC tools (port 10000) and Spark Connect (PARAMS="--port ...").
	@$(SPARK_PYTHON) -m jobs sql server $(PARAMS)

airflow: setup ## Serve Airflow on 127.0.0.1:8080: scheduler and web UI, over your data or the demo's (PARAMS="--port ...").
	@$(SPARK_PYTHON) -m scripts.airflow_server $(PARAMS)

s3: setup ## Put Hadoop's S3 client, some 600 MB, beside Spark's JARs, for a lake at s3a:// (docs/cluster.md).
	@$(SPARK_PYTHON) -m scripts.spark_jars s3
	@sh scripts/setup.sh

pack: setup ## Pack the wheel, and an environment that has it and its pins, into dist/ for a cluster (docs/cluster.md).
	@$(SPARK_PYTHON) -m scripts.pack

ablations: setup ## Train and measure every variant of the model, and write the table in docs/make.md (PARAMS="--minutes 10 ...").
	@$(SPARK_PYTHON) -m benchmarks.ablations $(PARAMS)

test: lint ## Lint, then run the core tests of both environments.
	@$(SPARK_PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" --ignore tests/dags
	@$(AIRFLOW_PYTHON) -m pytest -m "not slow" tests/dags

test-slow: lint ## Lint, then run every test of both environments.
	@$(SPARK_PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/dags
	@$(AIRFLOW_PYTHON) -m pytest tests/dags

lint: setup ## Check style and formatting; dags/ against Airflow's own rules too.
	@$(SPARK_PYTHON) -m ruff check
	@$(SPARK_PYTHON) -m ruff format --check
	@$(AIRFLOW_PYTHON) -m ruff check --extend-select AIR dags tests/dags

format: setup ## Format the code, and mend what the linter can.
	@$(SPARK_PYTHON) -m ruff check --fix
	@$(SPARK_PYTHON) -m ruff format

clean: ## Remove what runs left behind: demo, logs, caches, Airflow's database. Keeps the environments and ./lake.
	@rm -rf demo logs .airflow build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
