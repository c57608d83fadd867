"""A run directory is that of one run."""

from pathlib import Path

from tests.support.commands import command


def test_a_command_that_forgets_the_tasks_of_a_run_is_not_the_quickstart_in_its_folder(tmp_path: Path) -> None:
    run = tmp_path / "tickets"
    run.mkdir()
    (run / "config.yaml").write_text("name: tickets\ntasks: {tickets: {}, stars: {}}\n")
    for module in ("targen.generate", "eval.run"):
        done = command(module, f"run.dir={run}")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "which is the run tickets of tickets,stars" in done.stderr and "'task=[tickets,stars]'" in done.stderr
    assert [path.name for path in run.iterdir()] == ["config.yaml"]
