"""The command line maps errors to exit codes by cause and never shows a patient's value."""

import signal
from pathlib import Path

import pytest
import typer

from riskpred import errors
from riskpred.cli import main
from riskpred.cli.app import app

CODES = {
    errors.ConfigError: 10,
    errors.InputError: 11,
    errors.BundleError: 12,
    errors.GateError: 13,
    errors.NotAllScored: 14,
    errors.OutputError: 15,
}


@pytest.fixture
def verb() -> object:
    """A verb that raises what the test tells it to; removed afterwards."""
    raised: list[BaseException] = []

    @app.command("fail", hidden=True)
    def fail() -> None:
        raise raised[0]

    yield raised
    app.registered_commands[:] = [c for c in app.registered_commands if c.name != "fail"]


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_exit_code_by_cause(
    kind: type[errors.RiskpredError], code: int, verb: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    verb.append(kind("labs.csv: no column value.", wanted="value", got="val", do="rename it"))
    assert main(["fail"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "riskpred fail: labs.csv: no column value.\n  wanted  value\n  got     val\n  do      rename it\n"
    )


def test_a_bug_shows_where_but_not_what(verb: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    verb.append(ValueError("could not convert Jane Doe"))
    assert main(["fail"]) == 1
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "in fail" in shown
    assert "Jane" not in shown


@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_stops_a_verb_and_says_so(
    number: int, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)

    @app.command("wait", hidden=True)
    def wait() -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise RuntimeError("a query was interrupted") from None  # as DuckDB does

    try:
        assert main(["wait"]) == code
    finally:
        app.registered_commands[:] = [c for c in app.registered_commands if c.name != "wait"]
    assert capsys.readouterr().err == f"riskpred wait: stopped by {said}; nothing was published.\n"
    assert signal.getsignal(number) is before


def test_ctrl_c_and_usage(verb: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    verb.append(KeyboardInterrupt())
    assert main(["fail"]) == 130
    assert "stopped by Ctrl-C" in capsys.readouterr().err
    assert main(["no-such-verb"]) == 2
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("riskpred 0.")


def test_every_verb_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    assert " ".join(verbs) == "demo studies ingest check fit evaluate card score explain report forget monitor"
    for name in verbs:
        assert main([name, "--help"]) == 0
        assert f"riskpred {name}" in capsys.readouterr().out.split("Example", 1)[1], name


def test_app_is_a_typer_app_that_hides_locals(tmp_path: Path) -> None:
    assert isinstance(app, typer.Typer)
    assert app.pretty_exceptions_enable is False
