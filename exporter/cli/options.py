"""The options that commands share, each under its name: long and short form, help text, and its group in the help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

GOAL = "Goal"
TEXT = "Text"
TARGET = "Target"
MEASURE = "Measurement"
SOURCE = "Source"
OUTPUT = "Output"
DEVICE = "Device"

FORMATS = "txt, csv, jsonl, parquet, a datasets directory, or - for standard input"
SHAPE_HELP = "Batch to measure on, as 8x128 (texts x tokens); repeatable. The lengths of the text where not given."

# Source
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Hugging Face directory or name, weight file, .onnx file, or module:callable.",
    ),
]
OptionalSource = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE", help="Hugging Face directory or name, .onnx file, or module:callable; or --recipe names it."
    ),
]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of a bundle.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Any source that export takes, or a bundle.")]
Recipe = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        "-r",
        metavar="FILE",
        help="YAML recipe; options given here replace its values.",
        rich_help_panel=GOAL,
    ),
]
Task = Annotated[
    str | None,
    typer.Option("--task", metavar="NAME", help="Task; read from the source where not given.", rich_help_panel=SOURCE),
]
Pickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Load pickled weights: only from an author you trust.", rich_help_panel=SOURCE),
]

Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="DIR",
        help="Directory of an adapter of peft that is merged into SOURCE; repeatable, merged in order.",
        rich_help_panel=SOURCE,
    ),
]
Code = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        help="Run a factory that a recipe names: only from an author you trust.",
        rich_help_panel=SOURCE,
    ),
]

# Text
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        "-d",
        metavar="FILE",
        help=f"Text to check on: {FORMATS}. A small built-in set where not given.",
        rich_help_panel=TEXT,
    ),
]
SeveralData = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        "-d",
        metavar="FILE",
        help=f"Text to check on: {FORMATS}; repeatable. A small built-in set where not given.",
        rich_help_panel=TEXT,
    ),
]
TrainingData = Annotated[
    Path,
    typer.Option(
        "--data",
        "-d",
        metavar="FILE",
        help=f"Text like production's: {FORMATS}. A column of labels is used where there is one.",
        rich_help_panel=TEXT,
    ),
]
DomainData = Annotated[
    list[Path],
    typer.Option(
        "--data",
        "-d",
        metavar="FILE",
        help=f"Text like production's: {FORMATS}. A column of labels is used where there is one. Repeatable, a file for each domain: each "
        "is judged by itself.",
        rich_help_panel=TEXT,
    ),
]
Column = Annotated[
    str | None,
    typer.Option(
        "--column",
        metavar="NAME",
        help="Column of --data that holds the text; found where not given.",
        rich_help_panel=TEXT,
    ),
]
Samples = Annotated[
    int, typer.Option("--samples", min=1, metavar="N", help="Texts to learn from.", rich_help_panel=TEXT)
]

# Goal of a compression
Speedup = Annotated[
    float | None,
    typer.Option(
        "--speedup",
        "-s",
        metavar="N",
        help="Times as fast as the source, measured in ONNX Runtime.",
        rich_help_panel=GOAL,
    ),
]
Latency = Annotated[
    str | None,
    typer.Option("--latency", metavar="MS", help="Milliseconds on the workload, as 8ms.", rich_help_panel=GOAL),
]
Flops = Annotated[
    float | None,
    typer.Option("--flops", metavar="PART", help="Part of the operations that stays, as 0.5.", rich_help_panel=GOAL),
]
Quantize = Annotated[
    Literal["int8", "int4", "float16"] | None,
    typer.Option(
        "--quantize",
        help="int8 for speed and bytes; int4 (weights) or float16 for bytes alone.",
        rich_help_panel=GOAL,
    ),
]
Search = Annotated[
    bool,
    typer.Option("--search", help="Leave what is sensitive in float until --max-drop holds.", rich_help_panel=GOAL),
]
MaxDrop = Annotated[
    float,
    typer.Option(
        "--max-drop",
        metavar="POINTS",
        help="Points of quality that may be lost on held-out text.",
        rich_help_panel=GOAL,
    ),
]
Curve = Annotated[
    str | None,
    typer.Option(
        "--curve",
        metavar="N,N,…",
        help="Several speeds, as 1.25,1.5,2,3: a bundle for each below --out, with a table and a plot.",
        rich_help_panel=GOAL,
    ),
]
Recover = Annotated[
    str | None,
    typer.Option(
        "--recover",
        metavar="TIME",
        help="Distill from the source for so long, as 10-minutes; resumable. After a cut at most 3 minutes; 0-minutes for none.",
        rich_help_panel=GOAL,
    ),
]
TrimVocabulary = Annotated[
    bool,
    typer.Option("--trim-vocabulary", help="Remove tokens that text like this will hardly use.", rich_help_panel=GOAL),
]
KeepScript = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-script",
        metavar="SCRIPT",
        help="Trim no token of this script, as latin or cyrillic; may be repeated.",
        rich_help_panel=GOAL,
    ),
]
Repair = Annotated[
    bool,
    typer.Option("--repair/--no-repair", help="Refit the remaining weights by least squares.", rich_help_panel=GOAL),
]

# Target
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        metavar="NAME",
        help="What the bundle is made for; headway targets lists them. ort where not given.",
        rich_help_panel=TARGET,
    ),
]
Kernels = Annotated[
    Literal["auto", "stock", "custom"] | None,
    typer.Option(
        "--kernels",
        help="Operators: the runtime's (stock), Headway's own (custom), or what the passes need (auto, the default).",
        rich_help_panel=TARGET,
    ),
]
DType = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="NAME",
        help="fp32, fp16 or bf16: what is computed in, where the target has a choice. For int8 see headway compress.",
        rich_help_panel=TARGET,
    ),
]
Verify = Annotated[
    Literal["artifact", "module"] | None,
    typer.Option(
        "--verify",
        help="module: for coreml, whose artifact cannot run here; the module that it is converted from is checked.",
        rich_help_panel=TARGET,
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        "--gpu", metavar="NAMES", help="GPUs to build for with tensorrt-rtx, as sm_89,sm_120.", rich_help_panel=TARGET
    ),
]
Plan = Annotated[
    bool,
    typer.Option(
        "--plan", help="Write the graph and how to build it on the GPU machine; no engine.", rich_help_panel=TARGET
    ),
]

# Measurement
Threads = Annotated[
    int, typer.Option("--threads", min=1, metavar="N", help="Threads of each model.", rich_help_panel=MEASURE)
]
Shape = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="BxN", help=SHAPE_HELP, rich_help_panel=MEASURE),
]
Rounds = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        min=3,
        metavar="N",
        help="Paired rounds of each case (15), or runs on a device (200).",
        rich_help_panel=MEASURE,
    ),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        "-a",
        metavar="MODEL",
        help="Bundle, .onnx file, or Hugging Face directory (run by PyTorch) to compare with; repeatable.",
        rich_help_panel=MEASURE,
    ),
]
Device = Annotated[
    Literal["adb"] | None,
    typer.Option("--device", help="adb: an Android device, by the runtime's own perf tool.", rich_help_panel=DEVICE),
]
Serial = Annotated[
    str | None,
    typer.Option("--serial", metavar="ID", help="Which device, where several are connected.", rich_help_panel=DEVICE),
]
Tool = Annotated[
    list[Path] | None,
    typer.Option(
        "--tool",
        metavar="FILE",
        help="The perf tool built for the device; again for each library that it needs.",
        rich_help_panel=DEVICE,
    ),
]
DeviceShape = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="BxN",
        help="Batch to measure on the device, as 1x32 (texts x tokens); repeatable.",
        rich_help_panel=DEVICE,
    ),
]

# Output
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Directory of the bundle.", rich_help_panel=OUTPUT)
]
OptionalOut = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Directory of the bundle.", rich_help_panel=OUTPUT)
]
NewOut = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="DIR", help="Directory to write; it must not exist.", rich_help_panel=OUTPUT),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace what is there at --out.", rich_help_panel=OUTPUT)]
Work = Annotated[
    Path | None,
    typer.Option(
        "--work",
        metavar="DIR",
        help="Folder that keeps what is learned, so that another run goes on from there; in the user's cache where it is not given.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=OUTPUT)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.", rich_help_panel=OUTPUT)]
