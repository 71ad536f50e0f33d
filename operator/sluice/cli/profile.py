"""``sluice profile``: measure the iteration-time law with torch or from outside, fit it, compare it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sluice.cli import extras, places

application = typer.Typer(
    help="""Measure the iteration-time law of an engine.

    sluice profile published: what the law looks like on GPUs that others measured; needs nothing.

    sluice profile kernel --tiny: measure this machine, in under two minutes.
    """,
    no_args_is_help=True,
)


class Device(StrEnum):
    """What iterations run on."""

    AUTO = "auto"
    CUDA = "cuda"
    CPU = "cpu"


Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for manifest, raw rows and picture.")]
Name = Annotated[str | None, typer.Option(help="Name of the IterationProfile; default: model and device.")]


@application.command()
def kernel(  # noqa: PLR0913 -- one argument an option
    *,
    shape: Annotated[
        str, typer.Option(help="tiny, llama-3.1-8b, llama-3.1-70b, or the path of a Hugging Face config.json.")
    ] = "tiny",
    tiny: Annotated[bool, typer.Option("--tiny", help="The tiny shape on a small grid: under two minutes.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Operating batch, sequences.")] = 32,
    largest_batch: Annotated[int, typer.Option(min=1, help="Largest batch, sequences.")] = 128,
    largest_chunk: Annotated[int, typer.Option(min=1, help="Largest chunk, prompt tokens.")] = 2048,
    context: Annotated[int, typer.Option(min=0, help="Context of the decoding sequences, tokens.")] = 1024,
    layers: Annotated[int | None, typer.Option(min=1, help="Build so many layers, and twice, and scale.")] = None,
    device: Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")] = Device.AUTO,
    minutes: Annotated[float, typer.Option(min=0.01, help="Time budget: no point begins after it.")] = 10.0,
    output: Output = Path("profile"),
    name: Name = None,
) -> None:
    """Run iterations of a transformer with random weights, on the GPU or CPU at hand; several ranks by torchrun.

    Leaves an IterationProfile, the raw rows and a picture. A run that was cut
    off goes on where it stopped.

    sluice profile kernel --tiny -o out: this machine's CPU, under two minutes; proves the tool.

    sluice profile kernel --shape llama-3.1-8b -o out: on a GPU machine.

    torchrun --nproc-per-node 4 -m sluice profile kernel --shape llama-3.1-70b -o out: four GPUs, one engine.
    """
    extras.need("torch", "profiling")
    places.folder(output, "--output")
    from sluice_profiling import kernel_command  # noqa: PLC0415 -- torch takes seconds to load, and is an extra

    options = kernel_command.Options(
        shape=shape,
        tiny=tiny,
        batch=batch,
        largest_batch=largest_batch,
        largest_chunk=largest_chunk,
        context=context,
        layers=layers,
        device=device.value,
        minutes=minutes,
        output=output,
        name=name,
    )
    try:
        kernel_command.start(options)
    except (ValueError, OSError, RuntimeError) as error:
        _refuse(str(error))


@application.command()
def engine(  # noqa: PLR0913 -- one argument an option
    *,
    url: Annotated[str, typer.Option(help="Where the engine serves the OpenAI-compatible API.")],
    accelerator: Annotated[str, typer.Option(help="What the engine runs on: nothing tells it from outside.")],
    model: Annotated[str, typer.Option(help="Served model name; default: the first that the engine lists.")] = "",
    api_key: Annotated[str, typer.Option(envvar="OPENAI_API_KEY", help="Key, where the engine asks for one.")] = "",
    tensor_parallel: Annotated[int, typer.Option(min=1, help="Accelerators that the engine spans.")] = 1,
    batch: Annotated[int, typer.Option(min=2, help="Operating batch, sequences.")] = 32,
    largest_batch: Annotated[int, typer.Option(min=2, help="Largest batch, sequences.")] = 64,
    largest_chunk: Annotated[
        int, typer.Option(min=32, help="Largest probe; must fit into one chunk of the engine beside the batch.")
    ] = 1024,
    context: Annotated[int, typer.Option(min=1, help="Prompt of the decoding sequences, tokens.")] = 512,
    carrier_tokens: Annotated[int, typer.Option(min=64, help="Output a decoding sequence may ask for.")] = 4096,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time budget: no point begins after it.")] = 5.0,
    precision: Annotated[float, typer.Option(min=0.001, help="Relative half width at which a point is sure.")] = 0.01,
    allow_busy: Annotated[bool, typer.Option("--allow-busy", help="Probe although others use the engine.")] = False,
    output: Output = Path("profile"),
    name: Annotated[str, typer.Option(help="Name of the IterationProfile.")] = "engine",
) -> None:
    """Watch a live engine from outside: constant batches, and probes of known length beside them.

    The engine should serve nobody else meanwhile. Leaves an IterationProfile,
    the raw rows and a picture.

    sluice profile engine --url http://localhost:8000 --accelerator H100-SXM-80GB --batch 64 --largest-batch 128 -o out
    """
    extras.need("matplotlib", "simulation")
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is no URL, such as http://localhost:8000", param_hint="--url")
    places.folder(output, "--output")
    from sluice_profiling import engine_command  # noqa: PLC0415 -- numpy and matplotlib load when used

    options = engine_command.Options(
        url=url,
        accelerator=accelerator,
        model=model,
        api_key=api_key,
        tensor_parallel=tensor_parallel,
        batch=batch,
        largest_batch=largest_batch,
        largest_chunk=largest_chunk,
        context=context,
        carrier_tokens=carrier_tokens,
        minutes=minutes,
        precision=precision,
        allow_busy=allow_busy,
        output=output,
        name=name,
    )
    try:
        engine_command.start(options)
    except (ValueError, OSError, RuntimeError) as error:
        _refuse(str(error))


@application.command()
def fit(
    raw: Annotated[Path, typer.Argument(help="CSV file of a run.", exists=True, dir_okay=False)],
    batch: Annotated[
        int | None, typer.Option(min=1, help="Operating batch; default: the one with most points.")
    ] = None,
    name: Name = None,
) -> None:
    """Fit the raw rows of a run again, and write manifest and picture beside them.

    sluice profile fit out/engine.csv --batch 64: the law for another operating batch.
    """
    extras.need("matplotlib", "simulation")
    from sluice_profiling.report import conclude_raw  # noqa: PLC0415 -- numpy and matplotlib load when used

    try:
        conclusion = conclude_raw(raw, name or raw.stem, batch)
    except (ValueError, OSError) as error:
        _refuse(str(error))
    for line in conclusion.lines():
        typer.echo(line)
    typer.echo(f"wrote {conclusion.manifest} and {conclusion.picture}")


@application.command()
def published(
    data: Annotated[
        Path | None, typer.Option(envvar="SLUICE_ITERATION_TIMES", help="Folder of tables; default: our excerpt.")
    ] = None,
    context: Annotated[int, typer.Option(min=1, help="Context of the rows to fit, tokens.")] = 1024,
) -> None:
    """Fit the laws to iteration times that others published, and print the errors side by side.

    sluice profile published: seven models and GPUs, from an excerpt that comes with the package.

    sluice profile published --data FOLDER --context 4096: whole tables, at another context.
    """
    from sluice_profiling import published as tables  # noqa: PLC0415 -- numpy loads when used

    try:
        rows = tables.load(data or tables.EXCERPT, context_tokens=context)
    except (OSError, ValueError) as error:
        _refuse(str(error))
    typer.echo(tables.table(tables.compare(setup, measured) for setup, measured in rows.items()), nl=False)


def _refuse(message: str) -> NoReturn:
    typer.echo(f"sluice: {message}", err=True)
    raise typer.Exit(1)
