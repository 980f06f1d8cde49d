"""`poolscout embed`: one vector an image, by a backbone trained on other pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from poolscout.cli.console import (
    AddressOption,
    ConsoleProgress,
    EngineOption,
    JsonOption,
    RedoOption,
    SetOption,
    WorkersOption,
    engine_settings,
    resumable,
    show,
)


def embed(
    pool: Annotated[
        str, typer.Option(metavar="SOURCE", help="What holds or lists the images: a path or a URL (docs/pools.md).")
    ],
    backbone: Annotated[str, typer.Option(help="vgg16, resnet50, dinov2_vits14, or a name of timm's.")],
    weights: Annotated[
        str, typer.Option(metavar="FILE|pretrained", help="A .safetensors, .pth, .pt or .bin file; or: pretrained.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the embeddings.")],
    images: Annotated[str | None, typer.Option(help="Folder or URL of the images; default: found beside.")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Input height, px; default 224, in whole patches.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Input width, px; default 384, in whole patches.")] = None,
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    redo_stale: RedoOption = False,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed images with a pre-trained backbone; finished parts are kept when it is started again.

    Example: `poolscout embed --pool data/frames --backbone resnet50 --weights pretrained --out embedded`

    Example: `poolscout embed --pool pool.json --backbone vgg16 --weights vgg16-397923af.pth --out embedded`
    """
    from poolscout.single_embed import embed_source

    overrides = [*engine_settings(engine, workers, address), *overrides]
    with resumable():
        result = embed_source(
            pool, backbone, weights, out, images=images, overrides=overrides, progress=ConsoleProgress(),
            height=height, width=width, redo_stale=redo_stale,
        )  # fmt: skip
    show(result, as_json)
