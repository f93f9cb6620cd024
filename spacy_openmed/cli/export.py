"""``spacy openmed export``"""

from pathlib import Path

import typer

from ..errors import OpenMedError


def export(
    dataset: str = typer.Argument(..., help="Dataset id, or the folder of an adapter"),
    output: Path = typer.Argument(..., help="Folder to write; must not exist"),
    onnx: bool = typer.Option(False, "--onnx", help="Write onnx/model.onnx, too [extra: onnx]"),
    peft: bool = typer.Option(
        False, "--peft", help="Instead: one LoRA that plain PEFT runs on the backbone"
    ),
) -> None:
    """Write an adapter in a form that other tools run: a Hugging Face checkpoint, merged."""
    from .. import adapters
    from ..packaging.hf_export import export_checkpoint
    from ..packaging.peft_export import export_peft

    if peft and onnx:
        raise OpenMedError("--peft writes no network, so there is none for --onnx. Choose one.")
    folder = Path(dataset)
    found = adapters.read(folder if folder.is_dir() else adapters.find(dataset))
    if peft:
        export_peft(found, output)
    else:
        export_checkpoint(found, output, onnx)
    typer.echo(f"{output}")
