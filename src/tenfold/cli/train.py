"""`tenfold train`."""

import typer

from tenfold.cli import options as o
from tenfold.cli.recipe import recipe_of


def train(
    ctx: typer.Context,
    model: o.Model,
    data: o.DataSpec = None,
    task: o.Task = None,
    input: o.Input = None,
    batch_dim: o.BatchDim = None,
    mean: o.Mean = None,
    std: o.Std = None,
    batch_size: o.BatchSize = 128,
    trust_code: o.TrustCode = False,
    format: o.TrainFormat = None,
    params: o.Params = None,
    macs: o.Macs = None,
    bytes: o.Bytes = None,
    deployed_params: o.DeployedParams = None,
    time: o.Time = None,
    allow_slower: o.AllowSlower = False,
    runtime: o.Runtime = None,
    dtype: o.Dtype = None,
    of: o.Of = None,
    energy: o.Energy = None,
    ranks: o.Ranks = None,
    max_error: o.MaxError = None,
    allocation: o.TrainAllocation = None,
    multiple: o.Multiple = None,
    bits: o.Bits = None,
    plan: o.PlanFile = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    layer: o.Layer = None,
    init: o.Init = "dense",
    epochs: o.TrainEpochs = 10,
    lr: o.TrainLr = 0.01,
    mixed_precision: o.MixedPrecision = "no",
    accumulate: o.Accumulate = 1,
    average: o.Average = 0.0,
    shard: o.Shard = False,
    checkpoint_minutes: o.CheckpointMinutes = 10.0,
    out: o.Out = None,
    overwrite: o.Overwrite = False,
    recipe: o.Recipe = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    threads: o.Threads = None,
    as_json: o.Json = False,
) -> None:
    """Train a network from the start, its weights in cores; without a format or a plan, the dense network."""
    from typing import cast

    from tenfold import api, storage
    from tenfold.cli import screen
    from tenfold.cli.border import asked_for, check_out, machine, prepare, trained_by
    from tenfold.cli.reported import show_compressed, show_trained
    from tenfold.cli.typed import COMMAND
    from tenfold.protocols import TenfoldError
    from tenfold.surgery import Init

    if out is None:
        raise TenfoldError("nowhere to write; give --out FOLDER.")
    if data is None:
        raise TenfoldError("there is nothing to train on; give --data.")
    where = machine(device, threads)
    how = trained_by(mixed_precision, accumulate, average, shard, checkpoint_minutes)
    if storage.is_folder(model):
        raise TenfoldError(
            f"'{model}' is trained already; name its architecture, or train it on with tenfold recover {model}."
        )
    check_out(out, overwrite)
    asked = asked_for(
        layer, params=params, macs=macs, bytes=bytes, deployed_params=deployed_params, time=time,
        allow_slower=allow_slower or None, runtime=runtime, dtype=dtype, of=of, energy=energy, ranks=ranks,
        max_error=max_error, allocation=allocation, multiple=multiple, bits=bits, format=format, include=include,
        exclude=exclude,
    )  # fmt: skip
    api.check_train(plan, asked, init, epochs, lr)
    read = None if plan is None else api.plan_from(plan)
    given = prepare(
        model, data=data, task=task, shapes=input, batch_dim=batch_dim, mean=mean, std=std, batch_size=batch_size,
        seed=seed, trust_code=trust_code, wants_weights=False,
    )  # fmt: skip
    assert given.data is not None
    storage.check_storable(given.opened.model)
    document = storage.with_sources(given.document)
    settings: dict[str, storage.JSON] = {
        "command": COMMAND.get(),
        "recipe": recipe_of(ctx),
        "model": model,
        "data": data,
        "batch_size": batch_size,
    }
    settings |= {} if task is None else {"task": task}
    settings |= {} if plan is None else {"plan": str(plan)}
    state = out / "state"
    with storage.alone(out), screen.resumable(state), screen.bar() as watch:
        result = api.train(
            given.opened.model, given.data, inputs=given.inputs, plan=read, init=cast(Init, init), epochs=epochs, lr=lr,
            seed=seed, device=where, machine=how, state=state, document=document, settings=settings,
            watch=watch, **asked,
        )  # fmt: skip
        api.save(result, out, overwrite=overwrite)
    if as_json:
        screen.show_json(result.report.to_json().rstrip("\n"))
    elif api.is_dense(result.plan):
        show_trained(result, out)
    else:
        show_compressed(result, out)
