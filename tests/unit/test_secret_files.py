"""A secret may be a file named like its variable, in SECRETS_DIR; the environment goes before it."""

from pathlib import Path

import pytest

from pipeline.config import load_settings
from pipeline.errors import ConfigurationError


def test_a_secret_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kafka_password").write_text("from a file\n")
    monkeypatch.delenv("KAFKA_PASSWORD", raising=False)
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    assert load_settings().kafka_password.get_secret_value() == "from a file"


def test_the_environment_goes_before_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "db_password").write_text("from a file")
    monkeypatch.setenv("DB_PASSWORD", "from the environment")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    assert load_settings().db_password.get_secret_value() == "from the environment"


def test_a_missing_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path / "absent"))
    with pytest.raises(ConfigurationError, match=r"SECRETS_DIR: .*absent is no directory"):
        load_settings()
