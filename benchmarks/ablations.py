"""Train every cell with every seed, measure it on judged queries, and write the table of what each part is worth.

A killed run goes on: a cell that is finished is a line of `runs.jsonl`, one that is not goes on from its checkpoint.
Started twice, the two processes share the cells between them.

    python -m benchmarks.ablations --training-set lake/training_sets/<id> --catalog ... --images ... \
        --judged-queries ... --judgments ... --minutes 10 --seeds 3
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from benchmarks.bm25 import BM25, reciprocal_ranks, standard_scores
from benchmarks.cells import CELLS, FULL, Cell
from benchmarks.judged import Catalog, HeldOutQuery, read_catalog, read_held_out, read_judged
from benchmarks.options import read_options
from benchmarks.results import Results, Run
from benchmarks.table import write_table
from jobs.core.options import CommaSeparated, JobOptions
from jobs.training.slices import JudgedQuery
from models.encoder import Encoder
from models.make.configuration_make import PRESETS
from models.make.frozen_gate import freeze_gate, watch_gate
from models.retrieval_metrics import recall_at_k
from models.training.trainer import TrainSettings, train

Score = Callable[[str], np.ndarray]

# How BM25's scores of a catalog and the model's may be joined: the best one on the validation splits is measured.
JOINS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "reciprocal ranks": lambda model, lexical: reciprocal_ranks(model) + reciprocal_ranks(lexical),
    **{
        f"z-scores, BM25's times {weight}": lambda model, lexical, weight=weight: (
            standard_scores(model) + weight * standard_scores(lexical)
        )
        for weight in (0.1, 0.3, 1.0)
    },
}


class Options(BaseSettings):
    """Train every cell with every seed, measure it on judged queries, and write the table."""

    model_config = JobOptions.model_config

    training_set: Path = Field(description="Folder of a training set.")
    catalog: Path = Field(description="Parquet of item_id, title, image_uri.")
    images: Path = Field(description="Parquet of image_uri, content.")
    judged_queries: Path = Field(description="Parquet of query_id, query and, where known, wording.")
    judgments: Path = Field(description="Parquet of query_id, item_id and, where known, cold.")
    minutes: float | None = Field(None, gt=0, description="Wall clock that each training gets.")
    products: int | None = Field(None, ge=1, description="Products that each training sees, instead of minutes.")
    seeds: int = Field(3, ge=1, description="Trainings a cell.")
    cells: CommaSeparated[str] = Field(
        [cell.name for cell in CELLS], description="Names of cells, as a,b; default: all."
    )
    overrides: dict[str, Any] = Field({}, description="Fields of MakeConfig for every cell, as JSON.")
    batch_size: int = Field(512, ge=2, description="Products a step.")
    threads: int | None = Field(None, ge=1, description="CPU threads; None: as many as there are cores.")
    results: Path = Field(
        Path("benchmarks/results"),
        description="Folder for what was measured, in it one for minutes and one for products.",
    )
    document: Path = Field(Path("docs/make.md"), description="Markdown whose table of that bound is replaced.")
    only_table: bool = Field(False, description="Write the table of what is finished, and train nothing.")

    @model_validator(mode="after")
    def _known_cells_and_one_bound(self) -> Options:
        unknown = sorted(set(self.cells) - {cell.name for cell in CELLS})
        if unknown:
            raise ValueError(f"--cells: no cell is named {', '.join(unknown)}; see benchmarks/cells.py")
        if (self.minutes is None) == (self.products is None):
            raise ValueError("give either --minutes or --products, the same for every cell")
        return self

    @property
    def bound(self) -> str:
        """What all trainings have as much of."""
        return "minutes" if self.minutes else "products"

    def training(self, cell: Cell, seed: int, *, output: Path, checkpoint_folder: Path) -> TrainSettings:
        """What one training is told."""
        return TrainSettings(
            training_set=str(self.training_set),
            output=str(output),
            date=dt.date(2000, 1, 1),  # names a model that is not kept
            overrides={**self.overrides, **cell.model},
            objectives=cell.objectives,
            seed=seed,
            epochs=1_000_000,
            max_minutes=self.minutes,
            max_steps=self.products and max(1, self.products // self.batch_size),
            batch_size=self.batch_size,
            threads=self.threads,
            checkpoint_folder=str(checkpoint_folder),
            **cell.training,
        )


class Measuring:
    """The catalog, its queries, and the lexical index, read once for all cells."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.catalog: Catalog = read_catalog(options.catalog, options.images)
        self.judged: list[JudgedQuery] = read_judged(options.judged_queries, options.judgments, self.catalog)
        self.held_out: list[HeldOutQuery] = read_held_out(options.training_set, self.catalog)
        if not self.held_out:
            raise ValueError(
                f"{options.training_set}: no product of a validation split is in the catalog, and they choose how BM25 "
                "is joined: build the set with shares above 0, and give the catalog that it was built from."
            )
        self.bm25 = BM25(self.catalog.titles)

    def run(self, cell: Cell, seed: int, *, checkpoint_folder: Path) -> Iterator[tuple[Run, list[list[str]]]]:
        """Train one cell and rank the catalog with it; of the full one, also with what is derived from it.

        Yields:
            What is known of the run, and for each judged query the ids found.
        """
        with tempfile.TemporaryDirectory() as folder:
            settings = self.options.training(cell, seed, output=Path(folder), checkpoint_folder=checkpoint_folder)
            trained = train(settings).metrics
            encoder = Encoder.from_folder(folder)
        run = Run(
            cell=cell.name,
            seed=seed,
            parameters=sum(parameter.numel() for parameter in encoder.model.parameters()),
            products_per_second=trained["products_per_second"],
            steps=int(trained["steps"]),
            held_out={name: trained[f"validation_{name}"] for name in ("recall_at_10", "recall_at_100", "ndcg_at_10")},
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        )
        score = scores_of(encoder, self.catalog.embed(encoder))
        if cell.name == FULL:
            yield from self._derived(run, encoder, score)
        yield run, self.rank(score)

    def _derived(self, full: Run, encoder: Encoder, score: Score) -> Iterator[tuple[Run, list[list[str]]]]:
        """What needs no training of its own: BM25, BM25 joined with the full model, and that without photos or gate."""
        bare = {"seed": full.seed, "device": full.device}
        yield Run(cell="BM25", **bare), self.rank(self.bm25.scores)
        join = self.best_join(score)
        yield Run(cell=f"{FULL}, joined with BM25", note=join, **bare), self.rank(self.joined(score, join))
        titles = self.catalog.without_photos().embed(encoder)
        yield Run(cell=f"{FULL}, photos withheld", **bare), self.rank(scores_of(encoder, titles))
        with watch_gate(encoder.model) as watched:
            self.catalog.take(_sample(len(self.catalog.titles))).embed(encoder)
        weights = watched.image_weights
        frozen = Encoder(freeze_gate(encoder.model, weights), encoder.processor, model_version="frozen")
        note = f"photo's weight by head {weights.min():.2f} to {weights.max():.2f}, mean {weights.mean():.2f}"
        ranked = self.rank(scores_of(frozen, self.catalog.embed(frozen)))
        yield Run(cell=f"{FULL}, gate held at its mean", note=note, **bare), ranked

    def rank(self, score: Score) -> list[list[str]]:
        """For each judged query the ids found, best first."""
        return [self.catalog.best(score(query.query)) for query in self.judged]

    def joined(self, score: Score, join: str) -> Score:
        """The model's scores together with BM25's, as `JOINS` names it."""
        return lambda query: JOINS[join](score(query), self.bm25.scores(query))

    def best_join(self, score: Score) -> str:
        """The join with the highest recall@10 on the validation splits, among the whole catalog."""
        relevant = [query.relevant for query in self.held_out]

        def recall(join: str) -> float:
            joined = self.joined(score, join)
            ranked = [self.catalog.best(joined(query.query), hidden=query.hidden) for query in self.held_out]
            return float(recall_at_k(ranked, relevant, 10).mean())

        return max(JOINS, key=recall)


def _sample(items: int) -> np.ndarray:
    """Positions of items that are many enough for a mean, always the same."""
    return np.random.default_rng(0).choice(items, min(4096, items), replace=False)


def scores_of(encoder: Encoder, vectors: np.ndarray) -> Score:
    """A query's text -> its (items,) cosines to the vectors of the catalog."""
    return lambda query: vectors @ encoder.embed_queries([query])[0]


def main(arguments: list[str]) -> None:
    """Run what is not finished yet, seed by seed, then write the table."""
    options = read_options(Options, arguments)
    results = Results(options.results / f"equal_{options.bound}", asked=what_decides(options))
    if FULL not in options.cells and not results.of_cell(FULL):
        sys.exit(
            f"--cells: {FULL!r} is not among them and no run of it is finished: nothing could be compared with it."
        )
    if not options.only_table:
        measuring = Measuring(options)
        # Seed by seed, so that a run that is cut short has every cell as often.
        for seed in range(options.seeds):
            for cell in CELLS:
                if cell.name not in options.cells:
                    continue
                with results.claim(cell.name, seed) as is_ours:
                    if is_ours:
                        unfinished = results.unfinished(cell.name, seed)
                        for run, ranked in measuring.run(cell, seed, checkpoint_folder=unfinished):
                            print(results.add(run, measuring.judged, ranked), flush=True)
    results.read()
    write_table(options.document, results, bound=options.bound, command=command_of(options))


def what_decides(options: Options) -> dict[str, Any]:
    """What all runs of a results folder share; folders are told apart by name, not by where they lie.

    Cells differ from the defaults, so a new default makes new cells of all of them.
    """
    same = options.model_dump(mode="json", include={"minutes", "products", "overrides", "batch_size"})
    defaults = TrainSettings(training_set="", output="", date=dt.date.min).model_dump(mode="json")
    recipe = json.dumps([PRESETS[defaults["preset"]], defaults], sort_keys=True)
    return {
        **same,
        "training_set": options.training_set.resolve().name,
        "defaults": hashlib.sha256(recipe.encode()).hexdigest()[:12],
    }


def command_of(options: Options) -> str:
    """The command that made the table, without the paths of this machine."""
    bound = f"--minutes {options.minutes:g}" if options.minutes else f"--products {options.products}"
    threads = f" --threads {options.threads}" if options.threads else ""
    overrides = f" --overrides '{json.dumps(options.overrides)}'" if options.overrides else ""
    return f'make ablations PARAMS="{bound} --seeds {options.seeds}{threads}{overrides} ..."'


if __name__ == "__main__":
    main(sys.argv[1:])
