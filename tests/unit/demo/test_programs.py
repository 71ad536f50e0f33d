"""Finding programs: the order of search, and what a user is told when nothing helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.demo import programs


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_prometheus_on_path_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = executable(tmp_path / "bin" / "prometheus")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    executable(programs.cache_folder() / "prometheus")
    assert programs.prometheus() == on_path


def test_a_fetched_prometheus_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept = executable(programs.cache_folder() / "prometheus")
    assert programs.prometheus() == kept


def test_without_apt_the_error_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(programs.ProgramMissingError, match="Put a `prometheus` program on PATH"):
        programs.prometheus()


def test_the_package_is_found_by_fresh_lists_where_the_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in apt-get knows the package only after an update, as on a machine without lists."""
    apt = executable(tmp_path / "bin" / "apt-get")
    apt.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '  *update*) echo x > "$SEEN" ;;\n'
        '  *download*) [ -e "$SEEN" ] || { echo "E: Unable to locate package prometheus" >&2; exit 100; }\n'
        "              echo > prometheus_1_all.deb ;;\n"
        "esac\n",
        encoding="utf-8",
    )
    dpkg = executable(tmp_path / "bin" / "dpkg")
    dpkg.write_text(
        "#!/bin/sh\n/bin/mkdir -p $3/usr/bin && echo '#!/bin/sh' > $3/usr/bin/prometheus"
        " && /bin/chmod +x $3/usr/bin/prometheus\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said: list[str] = []
    assert programs.prometheus(said.append) == programs.cache_folder() / "prometheus"
    assert any("reading fresh ones" in line for line in said)


def test_envoy_is_the_binary_of_its_package() -> None:
    assert programs.envoy().is_file()
