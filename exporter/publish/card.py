"""Write the bundle's README: what it is, how it is opened, how near it is to its source, and its latency."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...manifest import MANIFEST, Manifest, file_records, logit_columns
from ...tasks import THRESHOLD, Scoring
from ..targets.registry import card_lines

CARD = "README.md"


def seal(directory: Path, manifest: Manifest) -> None:
    """Finish a bundle: write its card, and its manifest with the checksums of all files."""
    write_card(directory, manifest)
    manifest.files = file_records(directory)
    (directory / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


def write_card(directory: Path, manifest: Manifest) -> None:
    """Write the card from the manifest, with the plots that are in the directory."""
    anatomy, source = manifest.anatomy, manifest.source
    blocks = anatomy.get("blocks", [])
    artifact_path = directory / manifest.artifact  # a file, a folder, or, where it is built elsewhere, not there yet
    files = {*directory.glob("model.onnx*"), artifact_path, *artifact_path.rglob("*")}
    artifact = sum(p.stat().st_size for p in files if p.is_file())
    lines = [
        f"# {source.get('model_type') or 'model'} for {manifest.task}, target {manifest.target}",
        "",
        f"Made by Headway {manifest.headway_version} from a {source['kind']} source, and checked against it on real text.",
        "",
        "```python",
        "import headway",
        'bundle = headway.Bundle.open("this directory")',
        *_call(manifest),
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {anatomy['parameters']:,} |",
        f"| blocks | {len(blocks)} |",
        f"| heads per block | {_summary([heads_of(b) for b in blocks])} |",
        f"| intermediate size per block | {_summary([widths_of(b) for b in blocks])} |",
        f"| longest sequence | {manifest.tokenizer.max_length} tokens |",
        f"| source weights | {source['bytes'] / 1e6:.1f} MB |",
        f"| artifact | {artifact / 1e6:.1f} MB |",
        f"| fused operators | {', '.join(f'{k} {v}' for k, v in manifest.lowering.items())} |",
        *(_kernel_lines() if manifest.session_options.get("kernels") else []),
        *card_lines(manifest),
        *_unread_lines(blocks),
        *(["", "## Passes", "", *_stage_lines(manifest.compression)] if manifest.compression else []),
        "",
        "## Parity with the compressed graph" if manifest.compression else "## Parity with the source",
        *(
            ["", f"Checked was {manifest.engine['checked']}."]
            if manifest.engine and "checked" in manifest.engine
            else []
        ),
        "",
        "| output | max abs | max rel | cosine | argmax agreement | worst on |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {o['name']} | {o['max_abs']:.2e} | {o['max_rel']:.2e} | {o['cosine']:.7f} | {o['argmax_agreement']:.4f} | {o['worst_case']} |"
        for o in manifest.parity["outputs"]
    ]
    if manifest.bench:
        lines += ["", "## Latency", "", *_bench_lines(manifest.bench)]
    for record in manifest.devices:
        lines += ["", f"## Latency on {record['machine']['model']}", "", *_device_lines(record)]
    for plot in sorted(directory.glob("plots/*.png")):
        lines += ["", f"![{plot.stem}](plots/{plot.name})"]
    (directory / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _call(manifest: Manifest) -> list[str]:
    """Return the lines of code that use the bundle, by its task."""
    columns = logit_columns(manifest.outputs)
    if manifest.task == "text-classification" and columns is not None:
        scoring = Scoring.of(manifest.scoring, columns)
        several = f", threshold={THRESHOLD:g}" if scoring.kind == "multi-label" else ""
        return [f'bundle.labels(["a text", "another"]{several})  # names with scores: {scoring.meaning()}']
    calls = {
        "token-classification": 'bundle.entities(["a text", "another"])',
        "question-answering": 'bundle.answers([("a question", "its context")])',
        "multiple-choice": 'bundle.choices([("a question", ["an answer", "another"])])',
    }
    return [calls.get(manifest.task, f'bundle(["a text", "another"])["{manifest.outputs[-1].name}"]')]


def _kernel_lines() -> list[str]:
    return [
        "",
        "The graph holds operators of Headway's own. `Bundle.open` loads them; with plain onnxruntime call",
        "`session_options.register_custom_ops_library(str(headway.kernels.cpu.library_path()))` first.",
    ]


def _stage_lines(compression: dict) -> list[str]:
    """Return MB, ms and quality after each pass; a pass that gained nothing says so."""
    shapes = ", ".join(f"{b}×{n}" for b, n in compression["workload"]["shapes"])
    first = compression["stages"][0]
    where = f" in {compression['measured_in']}" if "measured_in" in compression else ""
    several = len(compression.get("agreement", {}).get("files", ())) > 1
    of_source = "" if several else f" (the source has {compression['source_quality']:.2f})"
    lines = [
        f"Milliseconds{where} on {shapes} tokens, {compression['workload']['threads']} thread(s), paired with the source; quality is "
        f"{compression['metric']} on {compression['held_out']} texts that no pass has seen{of_source}.{_parts(compression)}",
        "",
        _row(["after", "changes", "MB", "ms", "speed-up", *quality_heads(compression, "quality"), "note"]),
        "|---" * (6 + len(quality_heads(compression, "quality"))) + "|",
    ]
    for stage in compression["stages"]:
        changes = "; ".join(f"{k}: {v}" for k, v in stage["changes"].items())
        lines.append(f"| {stage['name']} | {changes} | {' | '.join(stage_figures(stage, first))} |")
    left = compression.get("left_in_float") or {}
    reasons: dict[str, list[str]] = {}
    for name, reason in left.items():
        reasons.setdefault(reason, []).append(name)
    lines += ["", *(f"In float: {', '.join(names)} ({reason})." for reason, names in reasons.items())] if left else []
    if "agreement" in compression:
        lines += ["", "Held-out text, with 95 % intervals over texts:", "", *_agreement_lines(compression["agreement"])]
    return lines


def _row(cells: Sequence[str]) -> str:
    """Return a row of a table; a bar in a file's name is no border."""
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _agreement_lines(agreement: Mapping[str, Any]) -> list[str]:
    """Return a table of every file's figures, and what they mean."""
    rows = [_row(row) for row in figure_rows(agreement)]
    table = [_row(["text (how many)", "figure", "value", "points lost"]), "|---|---|---|---|", *rows]
    return table + [line for sentence in meanings(agreement) for line in ("", sentence)]


def quality_heads(compression: Mapping[str, Any], name: str) -> list[str]:
    """Return the headings of the quality of a stage: `name`, or where there are several files of text, each of them."""
    return list(compression["stages"][-1].get("by_file", {})) or [name]


def _parts(compression: Mapping[str, Any]) -> str:
    """Return how the text was divided; nothing for a bundle of an older version, which does not say."""
    texts = compression.get("texts")
    if texts is None:
        return ""
    chosen = f" {texts['choose']} others decided between candidates." if texts["choose"] else ""
    return f" Passes learned from {texts['learn']} other texts.{chosen}"


def stage_figures(stage: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    """Return MB, ms, speed-up over the `first` stage and quality after a pass, and a remark on one that gained nothing."""
    remark = "undone: not faster" if stage["undone"] else "gained nothing" if stage["paid"] is False else ""
    times = f"{stage['ms']:.2f}", f"{first['ms'] / stage['ms']:.2f}"
    points = list(stage.get("by_file", {}).values()) or [stage["quality"]]
    return [f"{stage['nbytes'] / 1e6:.1f}", *times, *(f"{p:.2f}" for p in points), remark]


def figure_rows(agreement: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of a table of the manifest's `agreement`: text, figure, value, and what is lost, each with its 95 % interval."""
    rows = []
    for one in agreement["files"]:
        value = f"{one['points']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
        lost = f"{one['lost']:.2f} ({one['lost_low']:.2f} to {one['lost_high']:.2f})"
        rows.append([f"{one['data'] or 'held-out text'} ({one['texts']})", one["measure"], value, lost])
        for companion in one["companions"]:
            digits = f"{companion['value']:.2f} %" if companion["unit"] else f"{companion['value']:.3g}"
            rows.append(["", companion["name"], digits, ""])
    return rows


def meanings(agreement: Mapping[str, Any]) -> list[str]:
    """Return the sentences of the manifest's `agreement`; of several files, each names its own."""
    several = len(agreement["files"]) > 1
    return [
        f"{one['data']}: {one['meaning']}" if several else one["meaning"]
        for one in agreement["files"]
        if one["meaning"]
    ]


def _unread_lines(blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what of the blocks stays in the source's own operators, which no pass changes."""
    sentences = dict.fromkeys(sentence for block in blocks for sentence in block.get("not_read", []))
    return ["", "## Not read", "", *(f"- {sentence}" for sentence in sentences)] if sentences else []


def heads_of(block: Mapping[str, Any]) -> str:
    """Return how many heads a block has, as the card and the table show it."""
    if not block["heads"] and block.get("not_read"):
        return "not read"
    return str(block["heads"]) if block["heads"] else "no attention"


def widths_of(block: Mapping[str, Any]) -> str:
    """Return the intermediate size of a block's feed-forward; of all of them where it has several.

    A layer that lost its attention leaves its feed-forward to the block before it.
    """
    return " + ".join(map(str, block["intermediate_size"])) or "no feed-forward"


def _summary(values: list[str]) -> str:
    return values[0] if values and len(set(values)) == 1 else ", ".join(values)


def _bench_lines(bench: dict) -> list[str]:
    """Return the latency table, with the machine that it was measured on."""
    first, *others = bench["contestants"]
    machine = bench["machine"]
    heads = [
        "batch × length",
        "padding",
        "p50 / p90 / p99 ms",
        "tokens/s",
        *(f"times as long: {name}" for name in others),
    ]
    lines = [
        f"{machine['cpu']}, {', '.join(machine['features'])}, {bench['threads']} thread(s), onnxruntime "
        f"{machine['versions'].get('onnxruntime', '?')}; paired rounds, 95 % bootstrap interval.",
        "",
        "| " + " | ".join(heads) + " |",
        "|---" * len(heads) + "|",
    ]
    for case in bench["cases"]:
        percentiles = " / ".join(f"{case[p][first]:.1f}" for p in ("p50_ms", "p90_ms", "p99_ms"))
        ratios = [case["ratio_to_first"][name] for name in others]
        cells = [
            case["label"],
            f"{100 * case['padding']:.0f} %",
            percentiles,
            f"{case['tokens_per_second'][first]:,.0f}",
        ]
        cells += [f"{ratio:.2f} ({low:.2f} to {high:.2f})" for ratio, low, high in ratios]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _device_lines(record: dict) -> list[str]:
    """Return what the runtime's own tool measured on a device; a statistic that it does not give stays empty."""
    machine = record["machine"]
    statistics, rows = device_rows(record, ("mean", "p50", "p90", "p95", "p99"))
    return [
        f"{record['contestants'][0]}; {machine['cpu']}, {machine['system']}, {record['threads']} thread(s).",
        "",
        "| batch × length | runs | " + " | ".join(f"{k}, ms" for k in statistics) + " |",
        "|---" * (len(statistics) + 2) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def device_rows(record: Mapping[str, Any], statistics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return the statistics that a device's record has, and a row per case: label, runs, milliseconds by statistic."""
    (name,), cases = record["contestants"], record["cases"]
    given = [k for k in statistics if any(f"{k}_ms" in case for case in cases)]
    rows = [
        [c["label"], str(c["runs"]), *(f"{c[f'{k}_ms'][name]:.2f}" if f"{k}_ms" in c else "" for k in given)]
        for c in cases
    ]
    return given, rows
