import json
from pathlib import Path

import pytest

from benchmarks import ablations
from benchmarks.results import file_name
from benchmarks.table import markers
from jobs.training.ablations import read_ablations
from models.make.configuration_make import preset_config
from models.training.trainer import train
from tests.models.test_trainer import SMALL

BEGIN, END = markers("products")


def command(inputs: dict[str, Path], folder: Path, *more: str) -> list[str]:
    document = folder / "page.md"
    if not document.exists():
        document.write_text(f"before\n\n{BEGIN}\nnothing yet\n{END}\n\nafter\n")
    paths = {**inputs, "results": folder / "results", "document": document}
    options = [part for name, path in paths.items() for part in (f"--{name.replace('_', '-')}", str(path))]
    return [*options, "--overrides", json.dumps(SMALL), "--batch-size", "16", "--seeds", "1", "--threads", "1", *more]


def figures(table_row: str) -> list[str]:
    return [cell.strip() for cell in table_row.strip("|").split("|")]


def test_a_killed_run_goes_on_and_the_table_says_what_the_queries_say(inputs, tmp_path, monkeypatch):
    arguments = command(inputs, tmp_path, "--cells", "full,no image", "--products", "96")
    trained = []

    def train_one(settings):
        if trained:
            raise KeyboardInterrupt
        trained.append(settings)
        return train(settings)

    monkeypatch.setattr(ablations, "train", train_one)
    with pytest.raises(KeyboardInterrupt):
        ablations.main(arguments)
    lines = (tmp_path / "results" / "equal_products" / "runs.jsonl").read_text().splitlines()
    derived = ["BM25", "full, joined with BM25", "full, photos withheld", "full, gate held at its mean"]
    assert [json.loads(line)["run"]["cell"] for line in lines] == [*derived, "full"]

    monkeypatch.setattr(ablations, "train", lambda settings: trained.append(settings) or train(settings))
    ablations.main(arguments)
    assert [settings.overrides.get("use_image", True) for settings in trained] == [True, False]
    runs = {}
    for line in (tmp_path / "results" / "equal_products" / "runs.jsonl").read_text().splitlines():
        run = json.loads(line)["run"]
        runs[run["cell"]] = run
    assert list(runs) == [*derived, "full", "no image"]
    assert {run["steps"] for run in runs.values()} == {None, 6}

    text = (tmp_path / "page.md").read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\n\nafter\n")
    assert (
        f"`make ablations PARAMS=\"--products 96 --seeds 1 --threads 1 --overrides '{json.dumps(SMALL)}' ...\"`" in text
    )
    assert "32 judged queries over the whole catalog, ranked 6 times for this table" in text
    changes, details = [line for line in text.splitlines() if line.startswith("| no image |")]
    recall, full = (runs[cell]["figures"]["recall_at_10 [all]"] for cell in ("no image", "full"))
    assert figures(changes)[2].strip("*").startswith(f"{recall:.3f} ({recall - full:+.3f}, ")
    assert figures(details)[3:7] == [
        f"{runs['no image']['figures'][f'recall_at_10 [{name}]']:.3f}"
        for name in ("wording=plain", "wording=colloquial", "titles that lack a word", "items never shown")
    ]
    assert figures(details)[8] == f"{runs['no image']['parameters']:,}"

    summary = read_ablations(tmp_path / "results" / "equal_products" / "summary.json")
    assert [cell.name for cell in summary.cells] == ["BM25", "no image", *derived[1:]]
    assert summary.cells[1].changes["recall_at_10"].change == pytest.approx(recall - full)
    assert summary.full["recall_at_10"] == pytest.approx(full)

    ablations.main([*arguments, "--only-table"])
    assert (tmp_path / "page.md").read_text() == text
    assert len(trained) == 2


def test_cells_of_other_defaults_are_not_taken_for_finished(inputs, tmp_path, monkeypatch):
    options = ablations.read_options(ablations.Options, command(inputs, tmp_path, "--products", "96"))
    before = ablations.what_decides(options)
    monkeypatch.setitem(ablations.PRESETS["tiny"], "gate_heads", 2)
    after = ablations.what_decides(options)
    assert {name for name in before if before[name] != after[name]} == {"defaults"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--cells", "no image", "--products", "1"), "'full' is not among them"),
        (("--cells", "full,huge", "--minutes", "1"), "no cell is named huge"),
        ((), "either --minutes or --products"),
        (("--minutes", "1", "--products", "1"), "either --minutes or --products"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_read(inputs, tmp_path, more, message):
    with pytest.raises(SystemExit, match=message):
        ablations.main(command(inputs, tmp_path, *more))


def test_every_cell_differs_from_the_others_in_a_model_that_can_be_built(inputs, tmp_path):
    options = ablations.read_options(ablations.Options, command(inputs, tmp_path, "--products", "96"))
    told = []
    for cell in ablations.CELLS:
        settings = options.training(cell, 0, output=tmp_path, checkpoint_folder=tmp_path)
        preset_config(settings.preset, **settings.overrides)
        told.append(settings.model_dump_json())
    assert len(set(told)) == len(told) == len({file_name(cell.name) for cell in ablations.CELLS})
    assert not [cell.name for cell in ablations.CELLS if "," in cell.name], "--cells splits names at commas"
