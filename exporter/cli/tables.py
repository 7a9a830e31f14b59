"""Tables for the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ...kernels.cpu.bench import Measured
from ...manifest import Manifest
from ..bench.measure import BenchResult
from ..check.parity import Parity
from ..publish.card import device_rows, figure_rows, heads_of, quality_heads, stage_figures, widths_of

if TYPE_CHECKING:
    from ..bench.attribution import Difference
    from ..validate.gate_rows import Row
    from .demo import DemoRow
    from .machine import TargetState


_MOST_ROWS = 15


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return table


def export_table(manifest: Manifest, source_bytes: int, artifact_bytes: int) -> Table:
    """Return what an export made: sizes, fused operators and parity."""
    blocks = manifest.anatomy["blocks"]
    table = _table("export" if manifest.compression is None else "compression", "what", "value")
    table.add_row("task", manifest.task)
    table.add_row("blocks", str(len(blocks)))
    table.add_row("parameters", f"{manifest.anatomy['parameters']:,}")
    table.add_row("source weights", f"{source_bytes / 1e6:.1f} MB")
    table.add_row("artifact", f"{artifact_bytes / 1e6:.1f} MB")
    table.add_row("fused", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in manifest.lowering.items()))
    record = manifest.engine or {}
    if "sizes" in record:
        table.add_row("artifact by kind", ", ".join(f"{k} {v / 1e6:.2f} MB" for k, v in record["sizes"].items()))
    if record.get("runtime"):
        table.add_row("runtime, estimate", f"{record['runtime']['bytes'] / 1e6:.1f} MB ({record['runtime']['of']})")
    for output in manifest.parity["outputs"]:
        table.add_row(f"parity, {output['name']}", f"max abs {output['max_abs']:.1e}, cosine {output['cosine']:.7f}")
    if manifest.engine and "checked" in manifest.engine:
        table.add_row("checked", manifest.engine["checked"])
    return table


def parity_table(parity: Parity) -> Table:
    """Return the distance of each output from the source."""
    table = _table("parity with the source", "output", "max abs", "max rel", "cosine", "argmax", "verdict", "worst on")
    for o in parity.outputs:
        table.add_row(
            o.name,
            f"{o.max_abs:.2e}",
            f"{o.max_rel:.2e}",
            f"{o.cosine:.7f}",
            f"{o.argmax_agreement:.4f}",
            "ok" if o.ok else "FAILED",
            o.worst_case,
        )
    return table


def anatomy_table(inspection: Mapping[str, Any]) -> Table:
    """Return blocks, widths, sizes and FLOPs of a model."""
    title = f"{inspection['task']}: {inspection['parameters']:,} parameters, {inspection['bytes'] / 1e6:.1f} MB"
    if "gflops_per_token" in inspection:
        title += f", {inspection['gflops_per_token'] * 1e3:.1f} MFLOP per token at length {inspection['length']}"
    table = _table(title, "block", "heads", "head_dim", "intermediate size", "activation", "form")
    for i, block in enumerate(inspection["blocks"]):
        form = [name for name in ("disentangled", "merged_qkv", "gated") if block[name]]
        table.add_row(
            str(i),
            heads_of(block),
            str(block["head_dim"]) if block["heads"] else "-",
            widths_of(block),
            ", ".join(dict.fromkeys(block["activation"])),
            ", ".join(form) or "-",
        )
    for name, shape in inspection["embeddings"].items():
        table.add_row(name, "", "", "x".join(map(str, shape)), "", "embedding")
    unread = dict.fromkeys(s for block in inspection["blocks"] for s in block.get("not_read", []))
    table.caption = "; ".join([*inspection.get("form", ()), *unread]) or None
    return table


def share_table(share: Mapping[str, float], length: int) -> Table:
    """Return the measured share of time of each kind of operator."""
    table = _table(f"measured share of time at length {length}, one thread", "operator", "share")
    for name, value in share.items():
        if value >= 0.001:
            table.add_row(name, f"{100 * value:.1f} %")
    return table


def bench_table(result: BenchResult) -> Table:
    """Return the latency of all contestants, and its ratio to the first one's with a 95 % interval."""
    first, *others = result.contestants
    heads = [f"{first} p50 / p90 / p99 ms", "tokens/s"]
    for name in others:
        heads += [f"{name} p50 ms", "latency ratio"]
    table = _table(
        f"latency, {result.threads} thread{'s' if result.threads > 1 else ''}", "batch x length", "padding", *heads
    )
    for case in result.cases:
        row = [
            case.label,
            f"{100 * case.padding:.0f} %",
            " / ".join(f"{case.percentile(first, q):.1f}" for q in (50, 90, 99)),
            f"{case.throughput(first):,.0f}",
        ]
        for name in others:
            ratio, low, high = case.ratio(name)
            row += [f"{case.percentile(name, 50):.1f}", f"{ratio:.2f} ({low:.2f} to {high:.2f})"]
        table.add_row(*row)
    if others:
        means = [x for name in others for x in ("", f"{result.geometric_mean(name):.2f}")]
        table.add_row("geometric mean", "", "", "", *means, style="bold")
    return table


def gate_table(rows: Sequence["Row"]) -> Table:
    """Return each gate with its limit, what was measured, and the verdict on it."""
    from ..validate.outputs import cells

    table = _table("gates", "gate", "limit", "measured [95 % interval]", "verdict")
    for row in rows:
        table.add_row(*list(cells(row))[:4])
    return table


def difference_tables(found: "Difference") -> Iterator[Table]:
    """Yield where two bundles spend their time: by block, by kind of operator, and by module; the largest differences first."""
    first, second = found.totals
    titles = {("block",): "by block", ("kind",): "by operator", ("module", "kind"): "by module"}
    for keys, title in titles.items():
        table = _table(title, " and ".join(keys), f"{found.first} ms", f"{found.second} ms", "difference ms")
        for name, a, b in found.by(*keys)[:_MOST_ROWS]:
            table.add_row(name, f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}")
        table.add_row("all", f"{first:.3f}", f"{second:.3f}", f"{second - first:+.3f}", style="bold")
        yield table


def device_table(record: Mapping[str, Any]) -> Table:
    """Return what the runtime's own tool reported on a device; a statistic that it does not report stays empty."""
    name, machine = record["contestants"][0], record["machine"]
    title = f"{name} on {machine['model']} ({machine['cpu']}, {machine['system']}), {record['threads']} thread(s)"
    statistics, rows = device_rows(record, ("mean", "p50", "p90", "p95", "p99", "min", "max"))
    table = _table(title, "case", "runs", *(f"{k} ms" for k in statistics))
    for row in rows:
        table.add_row(*row)
    return table


def kernels_table(rows: Sequence[Measured], threads: int) -> Table:
    """Return milliseconds of each operator, case and implementation, the ratio to Headway's, and the share of what bounds it."""
    title = f"kernels, {threads} thread{'s' if threads > 1 else ''}"
    table = _table(title, "operator", "case", "implementation", "p50 ms", "latency ratio", "share of the limit")
    for row in rows:
        for name in row.milliseconds:
            share = f"{100 * row.share(name):.0f} % ({row.limit})" if row.limit_ms else ""
            ours = name == "headway"
            heads = (row.op, row.case) if ours else ("", "")
            table.add_row(*heads, name, f"{row.median(name):.3f}", "" if ours else f"{row.ratio(name):.2f}", share)
    return table


def stages_table(compression: Mapping[str, Any]) -> Table:
    """Return what each pass changed, and MB, ms and quality after it."""
    shapes = ", ".join(f"{b}x{n}" for b, n in compression["workload"]["shapes"])
    title = f"passes; ms on {shapes}, {compression['workload']['threads']} thread(s)"
    table = _table(
        title, "after", "changes", "MB", "ms", "speed-up", *quality_heads(compression, compression["metric"]), "note"
    )
    first = compression["stages"][0]
    for stage in compression["stages"]:
        table.add_row(stage["name"], summary_of_changes(stage["changes"]), *stage_figures(stage, first))
    return table


def agreement_table(agreement: Mapping[str, Any]) -> Table:
    """Return what held-out text says about a model, file by file, with 95 % intervals."""
    table = _table("held-out text, 95 % intervals over texts", "text (how many)", "figure", "value", "points lost")
    for row in figure_rows(agreement):
        table.add_row(*row)
    return table


def summary_of_changes(changes: Mapping[str, str]) -> str:
    """Return the first few changes in words."""
    words = [f"{k}: {v}" for k, v in changes.items()]
    return "; ".join(words[:3]) + (f"; and {len(words) - 3} more" if len(words) > 3 else "")


def sensitivity_table(content: Mapping[str, Any]) -> Table:
    """Return what each group of weights costs when it alone is quantized, the most costly first."""
    title = f"int8, activations {content['activations']}: error of the outputs, {content['unit']}"
    table = _table(title, "group", "error", "of the sum")
    total = sum(g["error"] for g in content["groups"]) or 1.0
    for group in sorted(content["groups"], key=lambda g: -g["error"]):
        share = f"{100 * group['error'] / total:.1f} %" if group["above_noise"] else "rounding noise"
        table.add_row(group["name"], f"{group['error']:.3g}", share)
    return table


def cache_table(folder: Any, entries: Sequence[Any]) -> Table:
    """Return how much compressions keep, by kind, and when it was last used."""
    table = _table(f"kept in {folder}", "what", "entries", "MB", "last used")
    for kind in sorted({e.kind for e in entries}):
        own = [e for e in entries if e.kind == kind]
        size = f"{sum(e.nbytes for e in own) / 1e6:,.1f}"
        table.add_row(kind, str(len(own)), size, max(e.to_json()["used"] for e in own)[:10])
    table.add_row("all", str(len(entries)), f"{sum(e.nbytes for e in entries) / 1e6:,.1f}", "")
    return table


def curve_table(curve: Any) -> Table:
    """Return what each speed of a curve costs; of one that was refused, why."""
    table = _table("one bundle for each speed", "asked", "measured", f"{curve.metric} lost", "MB", "bundle")
    for row in curve.rows:
        if row.refusal is not None:
            table.add_row(f"{row.asked:g}x", "", "", "", f"refused: {row.refusal}")
            continue
        low, high = row.interval
        measured = f"{row.speedup:.2f}x ({low:.2f} to {high:.2f})"
        table.add_row(f"{row.asked:g}x", measured, f"{row.drop:.2f}", f"{row.mb:.2f}", row.bundle)
    return table


def latency_table(table: Any) -> Table:
    """Return what one block's attention costs by heads, and its feed-forward by neurons or rank."""
    shown = _table(
        f"cost of one part of a block in ms, {table.workload} (whole model {table.full:.2f} ms)",
        "part",
        "level",
        "ms",
        "of the whole part",
    )
    parts = (
        ("attention, heads", table.heads, table.heads),
        ("attention, rank", table.attention_rank, table.heads),
        ("feed-forward, neurons", table.neurons, table.neurons),
        ("feed-forward, rank", table.neuron_rank, table.neurons),
    )
    for name, costs, of in parts:
        most = of[max(of)] if of else 1.0
        for level, ms in costs.items():
            shown.add_row(name, str(level), f"{ms:.3f}", f"{100 * ms / most:.0f} %")
    return shown


def targets_table(states: Sequence["TargetState"]) -> Table:
    """Return one row for each target: its device, dtypes and apps, and whether this machine can build and run it."""
    table = Table(title="targets", title_justify="left", header_style="bold")
    for heading in ("target", "device", "dtypes", "apps", "build here", "run here"):
        table.add_column(heading)
    build = {"yes": "yes", "plan": "plan only", "no": "no"}
    run = {True: "yes", False: "no", None: "unknown"}
    for state in states:
        dtypes, apps = ", ".join(state.dtypes), ", ".join(state.apps) or "-"
        table.add_row(state.name, state.device, dtypes, apps, build[state.build], run[state.run])
    return table


def target_notes(states: Sequence["TargetState"]) -> Iterator[str]:
    """Yield what the dtypes mean, then one line for each thing that cannot be done, with the reason and what to do."""
    yield "dtypes are what --dtype takes; integers come with headway compress --quantize"
    for state in states:
        if state.build_reason is not None:
            yield f"{state.name}, build: {state.build_reason}"
        if state.run_reason is not None:
            yield f"{state.name}, run: {state.run_reason}"


def demo_table(rows: Sequence["DemoRow"], case: str, machine: str) -> Table:
    """Return size, latency, speed and quality of each bundle beside the source in PyTorch."""
    title = f"all-MiniLM-L6-v2 on {machine}, one thread"
    table = _table(title, "model", "MB", f"ms, {case}", "times as fast as PyTorch", "agreement, %")
    for row in rows:
        table.add_row(row.name, f"{row.mb:.1f}", f"{row.ms:.1f}", f"{row.speed:.2f}", f"{row.agreement:.2f}")
    return table
