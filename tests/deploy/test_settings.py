"""deploy/.env.example: every setting is there, and taking its lines as they stand changes nothing."""

import re
from pathlib import Path

import pytest

from sourcebook.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(r"^#?(SOURCEBOOK_\w+)=(.*)$", re.MULTILINE)


def test_every_setting_is_in_the_example_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = LINE.findall((ROOT / "deploy" / ".env.example").read_text())
    assert [name for name, _ in lines] == [f"SOURCEBOOK_{name.upper()}" for name in Settings.model_fields]
    for name, value in lines:
        monkeypatch.setenv(name, value)
    assert load_settings() == Settings()
