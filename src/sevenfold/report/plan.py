"""Show a plan (the JSON of `s7 plan --json`) as tables.

It reads values and only formats them.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sevenfold.core.hashing import Json

_THOUSANDS = ("", " k", " M", " G", " T", " P", " E", " Z", " Y")


def scaled(value: float, unit: str) -> str:
    """Return a number with three digits and a metric prefix: 1082496, "B" -> "1.08 MB"."""
    size, step = float(value), 0
    while abs(size) >= 999.5 and step < len(_THOUSANDS) - 1:
        size, step = size / 1000, step + 1
    text = f"{size:.0f}" if step == 0 and size == int(size) else f"{size:.3g}"
    return f"{text}{_THOUSANDS[step] or ' '}{unit}".rstrip()


def duration(hours: float) -> str:
    """Return a number of hours in readable form."""
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours >= 1 / 60 else f"{hours * 3600:.1f} s"


def quantity(value: float | None, unit: str) -> str:
    """Return a figure of the document's table in its unit."""
    if value is None:
        return "-"
    if unit == "bytes":
        return scaled(value, "B")
    if unit in ("parameters", "tokens"):
        return scaled(value, "").replace(" G", " B")
    return f"{value:,.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.3g} {unit}"


def _table(title: str, columns: Iterable[str], note: str = "") -> Table:
    table = Table(title=title, title_justify="left", caption=note or None, caption_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def _components(plan: Json) -> Table:
    table = _table("Parameters", ("component", "parameters", "share", "FP32", "INT8"))
    for name, part in plan["components"].items():
        table.add_row(
            name,
            f"{part['parameters']:,}",
            f"{100 * part['share']:.1f} %",
            scaled(part["fp32_bytes"], "B"),
            scaled(part["int8_bytes"], "B"),
        )
    totals, parameters = plan["totals"], plan["parameters"]
    table.add_section()
    table.add_row(
        "total",
        f"{parameters['total']:,}",
        "100 %",
        scaled(totals["fp32_bytes"], "B"),
        scaled(totals["int8_bytes"], "B"),
    )
    if parameters["active"] != parameters["total"]:
        table.add_row("active for one token", f"{parameters['active']:,}", "", "", "")
    return table


def _memory(plan: Json) -> Table:
    phases = plan["phases"]
    table = _table("Training memory of one GPU", ("part", *(phase["name"] for phase in phases)))
    rows = {
        "weights": "weights",
        "gradients": "gradients",
        "optimizer": "optimiser",
        "activations": "activations, all kept",
        "activations_checkpointed": "activations, checkpointed",
        "total": "total, as the recipe says",
    }
    for key, label in rows.items():
        table.add_row(label, *(scaled(phase["memory"][key], "B") for phase in phases))
    table.add_section()
    table.add_row("sequences at a time", *(str(phase["micro_batch_sequences"]) for phase in phases))
    table.add_row("checkpointing", *("yes" if phase["memory"]["checkpointing"] else "no" for phase in phases))
    room = scaled(plan["training"]["gpu_memory"], "B")
    table.add_row(
        f"fits {plan['training']['gpu']} ({room})", *("yes" if phase["fits"] else "NO" for phase in phases)
    )
    return table


def _runs(plan: Json) -> Table:
    training = plan["training"]
    note = (
        f"{training['precision']} on {training['gpu']}: {scaled(training['peak_flops'], 'FLOP/s')} at "
        f"{100 * training['mfu']:.0f} % MFU, {training['price_per_gpu_hour']:.2f} USD per GPU-hour"
    )
    columns = ("phase", "tokens", "steps", "GPUs", "needed", "GPU-hours", "wall time", "cost USD")
    table = _table("Training time and cost", columns, note)
    for phase in plan["phases"]:
        needed = "none fits" if phase["needed_gpus"] is None else str(phase["needed_gpus"])
        gpus = f"{phase['n_pools']} x {phase['n_gpus']}" if phase["n_pools"] > 1 else str(phase["n_gpus"])
        table.add_row(
            phase["name"],
            quantity(phase["tokens"], "tokens"),
            f"{phase['steps']:,}",
            gpus,
            needed,
            f"{phase['gpu_hours']:,.1f}",
            duration(phase["wall_hours"]),
            f"{phase['cost']:,.0f}",
        )
        for pool in phase["pools"] if len(phase["pools"]) > 1 else ():
            hours, wall = f"{pool['gpu_hours']:,.1f}", duration(pool["wall_hours"])
            name = f"  pool: {', '.join(pool['items'])}"
            table.add_row(
                name, quantity(pool["tokens"], "tokens"), "", str(phase["n_gpus"]), "", hours, wall, ""
            )
    table.add_section()
    totals = (f"{training['gpu_hours']:,.1f}", duration(training["wall_hours"]), f"{training['cost']:,.0f}")
    table.add_row(
        "total", quantity(training["tokens"], "tokens"), "", f"peak {training['peak_gpus']}", "", *totals
    )
    return table


def _figures(plan: Json) -> Table:
    flops, inference, cpu = plan["flops"], plan["inference"], plan["cpu"]
    table = _table("Per token, inference, this CPU", ("quantity", "value"))
    forward = scaled(flops["forward_per_token"], "FLOP")
    table.add_row(f"forward, one token of {flops['sequence']}", forward)
    table.add_row("training, one token", scaled(flops["training_per_token"], "FLOP"))
    table.add_row("training, the whole run", scaled(flops["total"], "FLOP"))
    table.add_row("weights in the artifact (head stored too)", scaled(inference["weights_bytes"], "B"))
    table.add_row("key/value cache, one token", scaled(inference["kv_bytes_per_token"], "B"))
    table.add_row(f"key/value cache, context {inference['context']:,}", scaled(inference["kv_bytes"], "B"))
    table.add_section()
    source = "measured" if cpu["measured"] else "given"
    table.add_row(f"this CPU, matrix product ({source})", scaled(cpu["matmul_flops"], "FLOP/s"))
    if cpu["training_flops"]:
        table.add_row("this CPU, training step (measured)", scaled(cpu["training_flops"], "FLOP/s"))
    table.add_row("training on it (estimate)", f"{cpu['training_tokens_per_second']:,.0f} tokens/s")
    table.add_row("the run on it (estimate)", duration(cpu["training_hours"]))
    table.add_row("decoding on it (estimate)", f"{cpu['decode_tokens_per_second']:,.0f} tokens/s")
    return table


def _document(plan: Json) -> Table:
    columns = ("section", "quantity", "stated", "its own arithmetic", "", "ours")
    wrong = sum(row["adds_up"] is False for row in plan["document"])
    note = f"{wrong} of {len(plan['document'])} figures do not add up"
    table = _table("The document's figures", columns, note)
    table.columns[1].justify = table.columns[4].justify = "left"
    for row in plan["document"]:
        verdict = {True: "adds up", False: "DOES NOT ADD UP", None: ""}[row["adds_up"]]
        own = "" if row["own"] is None else f"{quantity(row['own'], row['unit'])} = "
        table.add_row(
            row["section"],
            row["quantity"],
            quantity(row["stated"], row["unit"]),
            own + row["how"],
            verdict,
            quantity(row["ours"], row["unit"]),
            style="bold red" if row["adds_up"] is False else None,
        )
    return table


def plan_tables(plan: Json) -> RenderableType:
    """Return the tables of a plan for a rich console."""
    recipe = plan["recipe"]
    tier = f", tier {recipe['tier']}" if recipe["tier"] else ""
    head = Text(
        f"{recipe['name']} ({recipe['family']}{tier})\n{recipe['summary']}\nrecipe {recipe['digest']}"
    )
    parts: list[RenderableType] = [head, _components(plan), _figures(plan), _memory(plan), _runs(plan)]
    if plan["document"]:
        parts.append(_document(plan))
    parts.append(Text("\n".join(f"- {line}" for line in plan["assumptions"])))
    return Group(*parts)
