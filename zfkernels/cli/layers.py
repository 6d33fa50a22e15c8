"""zfkernels layers"""

from __future__ import annotations

import dataclasses

import click

from zfkernels.cli import options


@click.command()
@click.argument("name", metavar="[MODEL]", default="")
@options.model_options(default="zfnet64")
@options.json_option
def layers(name: str, model: str, weights: str, device: str, backend: str | None, as_json: bool) -> None:
    """What --layer and --layers can name in a network: a table of its layers, in order.

    Size is that of a map, stride the pixels from one cell to the next, the receptive field the pixels that a cell
    depends on; a dash: none, or the whole image. MODEL is short for --model.
    """
    from zfkernels.network.network import trace_model

    drawn = "none" if weights == "DEFAULT" else weights  # the table is of the layers: no weights need be fetched
    network, preprocess = options.load_model(name or model, drawn, device)
    table = trace_model(network, (preprocess.size, preprocess.size)).layer_info()
    record = {
        "model": name or model,
        "size": preprocess.size,
        "layers": [dataclasses.asdict(info) for info in table],
    }
    rows = [("name", "kind", "channels", "size", "stride", "receptive field")]
    rows += [
        (info.name, info.kind, str(info.channels), _pair(info.size), _pair(info.stride), _pair(info.receptive_field))
        for info in table
    ]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    options.report(record, "\n".join(text), as_json)


def _pair(pair: tuple[int, int] | None) -> str:
    return "-" if pair is None else f"{pair[0]}x{pair[1]}"
