"""What `export` does and prints; `cli_export` only reads its arguments."""

from collections.abc import Sequence
from pathlib import Path

from twinlens.quiet import import_tensorflow

import_tensorflow(lean=True)

from twinlens.export import (  # noqa: E402
    export_model,
    write_embeddings,
    write_projector,
)
from twinlens.export.folder import check_absent  # noqa: E402
from twinlens.tables import say  # noqa: E402


def export_and_print(
    run: str,
    index: str,
    out: Path | None,
    formats: Sequence[str],
    embeddings: Path | None,
    projector: Path | None,
) -> None:
    """Writes what was asked for and says what there is now."""
    for path in (out, embeddings, projector):
        if path is not None:
            check_absent(path)
    if out is not None:
        manifest = export_model(run, out, index, formats, say)
        _say_export(out, manifest)
    if embeddings is not None:
        counts = write_embeddings(run, embeddings)["kind"].value_counts()
        told = ", ".join(f"{count:,} {kind}s" for kind, count in counts.items())
        say(f"{embeddings}: embeddings of {told}")
    if projector is not None:
        count = write_projector(run, projector)
        say(f"{projector}: {count:,} pictures; tensorboard --logdir {projector}")


def _say_export(out: Path, manifest: dict) -> None:
    size = sum(each["bytes"] for each in manifest["files"].values()) / 1e6
    check = manifest["check"]
    largest = max(check["differences"].values())
    say(
        f"{out}: {', '.join(manifest['endpoints'])}; {size:,.0f} MB. On "
        f"{check['texts']} texts and {check['pictures']} pictures of the data it "
        f"differs from the run by {largest:.1g} at most."
    )
    if manifest["collection"] and "search_text" not in manifest["endpoints"]:
        fields = ", ".join(manifest["collection"]["fields"])
        say(f"Without search_text: no text can be compared with {fields}.")
    for name, gaps in check["formats"].items():
        say(f"{out / name}: differs by {max(gaps.values()):.1g} at most.")
    if manifest["custom_operations"]:
        say(
            f"What reads texts needs tensorflow-text; {out / 'plain'} has the other "
            "endpoints for TensorFlow alone."
        )
