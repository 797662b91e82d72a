"""What commands print: no secret, and nothing that a terminal would obey."""

import json

import pytest

from sourcebook.cli.stack import warn_of_reach
from sourcebook.cli.terminal import make_table, show, show_error, show_fault, show_warning
from sourcebook.errors import DownloadRefused

FOREIGN = "v1\x1b[31m\x9b2J"


def test_control_characters_of_foreign_data_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(None, as_json=False, table=lambda: make_table([f"a{FOREIGN}"], [[f"b{FOREIGN}"]]))
    show(None, as_json=False, table=lambda: FOREIGN)
    show_warning(FOREIGN)
    show_error(DownloadRefused(FOREIGN), as_json=False)
    show_fault(ValueError(FOREIGN))
    printed = "".join(capsys.readouterr())
    assert printed.count("v1") == 6
    assert "\x1b" not in printed
    assert "\x9b" not in printed


def test_secrets_are_hidden_in_the_details_of_an_error_too(capsys: pytest.CaptureFixture[str]) -> None:
    error = DownloadRefused("https://h/?sig=hunter2", url="https://me:hunter2@h", tried=["https://h/?token=hunter2"])
    show_error(error, as_json=True)
    show_error(error, as_json=False)
    show_fault(ValueError("redis://:hunter2@h"))
    printed = capsys.readouterr().err
    assert "hunter2" not in printed
    assert json.loads(printed.splitlines()[0])["details"]["tried"] == ["https://h/?token=***"]


@pytest.mark.parametrize(("host", "warns"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_listening_where_other_machines_reach_it_warns(
    capsys: pytest.CaptureFixture[str], host: str, warns: bool
) -> None:
    warn_of_reach(host)
    assert ("the hub has no login" in capsys.readouterr().err) is warns
