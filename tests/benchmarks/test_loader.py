from benchmarks import loader


def test_the_same_step_is_timed_with_every_source_of_batches(training_set, capsys):
    sizes = {"batch-size": 16, "rounds": 1, "settling": 0, "steps": 2, "threads": 1, "cache-mb": 0}
    options = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    loader.main(["--training-set", str(training_set), *options])
    lines = capsys.readouterr().out.splitlines()
    medians = {line[:12].strip(): [float(figure) for figure in line[12:].split()] for line in lines[2:]}
    assert list(medians) == ["in memory", "Petastorm", "DataLoader"]
    assert medians["in memory"][1] == 1.0
    assert all(milliseconds > 0 for milliseconds, _, _ in medians.values())
