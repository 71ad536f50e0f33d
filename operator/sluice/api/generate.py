"""``python -m sluice.api.generate``: write the CRDs and their reference page.

The files are generated and committed; a test holds them equal to the models.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from sluice.api.reference import page
from sluice.api.resources import KINDS
from sluice.api.schema import definition
from sluice.model.naming import GROUP

_HEADER = "# Generated from the models in sluice.api by `make crds`; do not edit.\n"
_WIDTH = 120


class _Dumper(yaml.SafeDumper):
    """Writes shared values twice: the file has no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        """True: repeat instead of referring."""
        return True


def files() -> dict[str, str]:
    """Every generated file by its name."""
    generated = {
        f"{GROUP}_{kind.plural}.yaml": _HEADER
        + yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)
        for kind in KINDS.values()
    }
    generated["README.md"] = page()
    return generated


def write(root: Path) -> tuple[Path, ...]:
    """Write ``crds/`` and the chart's copy below ``root``; return what was written."""
    written = []
    for name, text in files().items():
        targets = [root / "crds" / name]
        if name.endswith(".yaml"):
            targets.append(root / "charts" / "sluice" / "crds" / name)
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            written.append(target)
    return tuple(written)


def main() -> None:
    """Write into the working directory, which must be the repository's root."""
    root = Path.cwd()
    if not (root / "operator" / "sluice").is_dir():
        sys.exit("run this at the root of the repository: operator/sluice is not here")
    for path in write(root):
        sys.stdout.write(f"{path.relative_to(root)}\n")


if __name__ == "__main__":
    main()
