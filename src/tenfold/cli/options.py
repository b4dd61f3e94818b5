"""Every option once; commands take the ones that concern them."""

from pathlib import Path
from typing import Annotated

import typer

from tenfold.cli import completion
from tenfold.cli.recipe import take_recipe

NETWORK, BUDGET, LAYERS = "Network and data", "Budgets and rules", "Formats and layers"
CALIBRATION, RECOVERY, TRAINING, RUN = "Calibration", "Recovery", "Training", "Run"

# ---- the network and its data
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        autocompletion=completion.networks,
        help="A zoo name, timm:NAME, torchvision:NAME, hf:FOLDER, net.py:function, package.mod:function, or a folder.",
    ),
]
Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        autocompletion=completion.networks,
        help="One network, or several to be put side by side.",
    ),
]
Folder = Annotated[str, typer.Argument(metavar="FOLDER", help="A folder that tenfold wrote.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Trained weights: safetensors, or a torch file of tensors.", rich_help_panel=NETWORK
    ),
]
TeacherWeights = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="FILE", help="Weights of the dense network, for --distill.", rich_help_panel=NETWORK
    ),
]
DataSpec = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        autocompletion=completion.data_sets,
        help="digits, mnist:DIR, fashion-mnist:DIR, cifar10:DIR, imagefolder:DIR, or data.py:function.",
        rich_help_panel=NETWORK,
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="TASK",
        autocompletion=completion.tasks,
        help="What the data is for: classification (default), segmentation, tokens, language, multi-label, regression.",
        rich_help_panel=NETWORK,
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SHAPE",
        help="Shape of one sample, 3x224x224, or ids=128:int64; once for each input.",
        rich_help_panel=NETWORK,
    ),
]
BatchDim = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Dimension of the (first) input that counts samples; none: all is one sample. By default it is found.",
        rich_help_panel=NETWORK,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(metavar="NUMBERS", help="Mean of the inputs by channel: 0.5,0.5,0.5.", rich_help_panel=NETWORK),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="NUMBERS", help="Standard deviation of the inputs by channel.", rich_help_panel=NETWORK),
]
BatchSize = Annotated[
    int, typer.Option(min=1, metavar="N", help="Samples in a batch of data.", rich_help_panel=NETWORK)
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Let a folder run the code that it names.", rich_help_panel=NETWORK)
]

# ---- budgets, or one rule
Params = Annotated[
    str | None, typer.Option(help="Parameters: 4x fewer, or 25% kept.", rich_help_panel=BUDGET, metavar="RATIO")
]
Macs = Annotated[
    str | None, typer.Option(help="Multiply-adds of one sample, likewise.", rich_help_panel=BUDGET, metavar="RATIO")
]
Bytes = Annotated[
    str | None, typer.Option(help="Bytes of the parameters, likewise.", rich_help_panel=BUDGET, metavar="RATIO")
]
DeployedParams = Annotated[
    str | None,
    typer.Option(help="Parameters of the form that runs, likewise.", rich_help_panel=BUDGET, metavar="RATIO"),
]
Time = Annotated[
    str | None,
    typer.Option(metavar="RATIO", help="Time of a batch on this machine, likewise; measured.", rich_help_panel=BUDGET),
]
AllowSlower = Annotated[
    bool,
    typer.Option(
        "--allow-slower", help="Let auto take layers that are slower than the dense ones.", rich_help_panel=BUDGET
    ),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        metavar="RUNTIME",
        help="Where it is to be fast: eager (default), compile, onnxruntime or cuda-graph.",
        rich_help_panel=BUDGET,
    ),
]
Of = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Only this part, whose parameters and multiply-adds budgets then count: 'encoder.*'; repeatable.",
        rich_help_panel=BUDGET,
    ),
]
Energy = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE", help="Rule: share of every unfolding's squared norm to keep, 0 to 1.", rich_help_panel=BUDGET
    ),
]
Ranks = Annotated[
    str | None, typer.Option(metavar="RANKS", help="Rule: 8 for every bond, or 24,40,24.", rich_help_panel=BUDGET)
]
MaxError = Annotated[
    float | None,
    typer.Option(
        metavar="ERROR", help="Largest relative error of one weight under budgets; 0.9.", rich_help_panel=BUDGET
    ),
]
Allocation = Annotated[
    str | None,
    typer.Option(metavar="HOW", help="global, clipped, or uniform: one share of the ranks.", rich_help_panel=BUDGET),
]
Bits = Annotated[
    str | None,
    typer.Option(
        metavar="BITS",
        help="Of every number in these layers: 16, 8, 6, 4, 3 or 2; or auto, under --bytes.",
        rich_help_panel=BUDGET,
    ),
]
Multiple = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Every rank a multiple of this.", rich_help_panel=BUDGET)
]
Batch = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Stages that are fastest here for N samples; else those of the fewest multiply-adds.",
        rich_help_panel=BUDGET,
    ),
]
Runtimes = Annotated[
    bool,
    typer.Option("--runtimes", help="Time it compiled and in onnxruntime, too; compiling takes its time."),
]
Frontier = Annotated[
    bool,
    typer.Option(
        "--frontier",
        help="Instead of a plan: foreseen errors on the way to the budgets, by default 16x --params and --macs.",
        rich_help_panel=BUDGET,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="DTYPE",
        help="In which numbers are stored, two bytes each: bf16 or fp16; by default their own.",
        rich_help_panel=BUDGET,
    ),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE", help="A plan file, instead of budgets.", rich_help_panel=BUDGET)
]

# ---- which layers, and how
Format = Annotated[
    str | None,
    typer.Option(
        metavar="FORMATS",
        autocompletion=completion.formats,
        help="ht2; svd,tucker2,tt; conv=ht2,linear=svd; or auto (default).",
        rich_help_panel=LAYERS,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="Only these layers: name, glob or re:expression; repeatable.", rich_help_panel=LAYERS
    ),
]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Never these layers; repeatable.", rich_help_panel=LAYERS)
]
Layer = Annotated[
    list[str] | None,
    typer.Option(
        autocompletion=completion.layers,
        help="One layer by pattern: 'fc=svd:16', 'layer1.*=dense'; repeatable.",
        rich_help_panel=LAYERS,
        metavar="PATTERN=FORMAT[:RANKS]",
    ),
]

# ---- calibration
Calibrate = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Unlabelled samples by which errors are weighed and blocks reconstructed; 1000 with --data and no epochs.",
        rich_help_panel=CALIBRATION,
    ),
]
CalibrateData = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        autocompletion=completion.data_sets,
        help="Data whose inputs to calibrate on; by default --data's.",
        rich_help_panel=CALIBRATION,
    ),
]
Reconstruct = Annotated[
    bool,
    typer.Option("--reconstruct/--no-reconstruct", help="Refine block after block.", rich_help_panel=CALIBRATION),
]
Distil = Annotated[
    int,
    typer.Option(
        min=0, metavar="STEPS", help="Unlabelled steps on the whole network after that.", rich_help_panel=CALIBRATION
    ),
]

Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", help="What is kept of them, such as 4GB; the rest lies in files.", rich_help_panel=CALIBRATION
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        metavar="POINTS",
        help="Instead of a budget: the smallest network that loses at most so many points.",
        rich_help_panel=BUDGET,
    ),
]
ObjectiveOf = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="WHAT",
        help="With --max-drop: what is to be gained: params (the default), macs or time.",
        rich_help_panel=BUDGET,
    ),
]

# ---- recovery
Epochs = Annotated[
    int, typer.Option(min=0, metavar="N", help="Epochs of fine-tuning; 0: batch norms only.", rich_help_panel=RECOVERY)
]
Lr = Annotated[float, typer.Option(metavar="RATE", help="Largest learning rate.", rich_help_panel=RECOVERY)]
_DISTILL = typer.Option(
    min=0,
    max=1,
    metavar="SHARE",
    help="Share of the loss that is the distance to the dense network; compress takes 0.9 for classification.",
    rich_help_panel=RECOVERY,
)
Distill = Annotated[float, _DISTILL]
DefaultDistill = Annotated[float | None, _DISTILL]
Bn = Annotated[bool, typer.Option("--bn/--no-bn", help="Estimate batch norms anew.", rich_help_panel=RECOVERY)]
MixedPrecision = Annotated[
    str,
    typer.Option(
        "--mixed-precision",
        metavar="PRECISION",
        help="Numbers of activations in training: no (float32), bf16 or fp16.",
        rich_help_panel=RECOVERY,
    ),
]
Accumulate = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="Parts that a batch goes through in, for less memory; the gradient is the same.",
        rich_help_panel=RECOVERY,
    ),
]
Average = Annotated[
    float,
    typer.Option(
        metavar="DECAY",
        help="End with a running average of the weights, by this decay (0.999); 0: none.",
        rich_help_panel=RECOVERY,
    ),
]
Shard = Annotated[
    bool,
    typer.Option(
        "--shard",
        help="Processes share the network out (FSDP2), where one device cannot hold it.",
        rich_help_panel=RECOVERY,
    ),
]
CheckpointMinutes = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="MINUTES",
        help="Between checkpoints within an epoch; 0: after each step.",
        rich_help_panel=RECOVERY,
    ),
]

# ---- training from the start
TrainFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMATS",
        autocompletion=completion.formats,
        help="As in compress; without one, the dense network.",
        rich_help_panel=LAYERS,
    ),
]
TrainAllocation = Annotated[
    str | None,
    typer.Option(
        "--allocation",
        metavar="HOW",
        help="uniform: one share of the ranks (default), or global.",
        rich_help_panel=BUDGET,
    ),
]
Init = Annotated[
    str,
    typer.Option(
        metavar="HOW", help="dense: random weights are decomposed; cores: cores are drawn.", rich_help_panel=TRAINING
    ),
]
TrainEpochs = Annotated[int, typer.Option("--epochs", metavar="N", help="Of training.", rich_help_panel=TRAINING)]
TrainLr = Annotated[
    float, typer.Option("--lr", metavar="RATE", help="Largest learning rate, of Adam.", rich_help_panel=TRAINING)
]

# ---- the run
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="The folder to write.", rich_help_panel=RUN)]
PlanOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="The plan file to write, plan.yaml by default; with --frontier a picture, .png or .svg.",
        rich_help_panel=RUN,
    ),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="A page for the browser with all of it, too.", rich_help_panel=RUN),
]
ExportOut = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="The file to write: model.onnx or model.pt2.", rich_help_panel=RUN)
]
DemoOut = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.", rich_help_panel=RUN)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what tenfold wrote there.", rich_help_panel=RUN)]
Profile = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder that keeps what was measured, for the next budget.", rich_help_panel=RUN),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.", rich_help_panel=RUN)]
Recipe = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        callback=take_recipe,
        is_eager=True,
        help="Options from a file, such as the recipe.yaml of a folder; what is typed counts first.",
        rich_help_panel=RUN,
    ),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Of everything that is drawn.", rich_help_panel=RUN)]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="cpu, cuda or cuda:1.", rich_help_panel=RUN)]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="Of torch.", rich_help_panel=RUN)]
Json = Annotated[
    bool,
    typer.Option("--json", help="The result as JSON on standard output, and nothing else there.", rich_help_panel=RUN),
]
