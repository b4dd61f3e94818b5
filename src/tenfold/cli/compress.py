"""`tenfold compress`."""

import typer

from tenfold.cli import options as o
from tenfold.cli.recipe import recipe_of


def compress(
    ctx: typer.Context,
    model: o.Model,
    weights: o.Weights = None,
    data: o.DataSpec = None,
    task: o.Task = None,
    input: o.Input = None,
    batch_dim: o.BatchDim = None,
    mean: o.Mean = None,
    std: o.Std = None,
    batch_size: o.BatchSize = 128,
    trust_code: o.TrustCode = False,
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
    allocation: o.Allocation = None,
    multiple: o.Multiple = None,
    bits: o.Bits = None,
    max_drop: o.MaxDrop = None,
    objective: o.ObjectiveOf = None,
    batch: o.Batch = None,
    plan: o.PlanFile = None,
    format: o.Format = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    layer: o.Layer = None,
    calibrate: o.Calibrate = None,
    calibrate_data: o.CalibrateData = None,
    reconstruct: o.Reconstruct = True,
    distil: o.Distil = 0,
    memory: o.Memory = None,
    epochs: o.Epochs = 0,
    lr: o.Lr = 0.02,
    distill: o.DefaultDistill = None,
    bn: o.Bn = True,
    mixed_precision: o.MixedPrecision = "no",
    accumulate: o.Accumulate = 1,
    average: o.Average = 0.0,
    shard: o.Shard = False,
    checkpoint_minutes: o.CheckpointMinutes = 10.0,
    out: o.Out = None,
    overwrite: o.Overwrite = False,
    dry_run: o.DryRun = False,
    profile: o.Profile = None,
    recipe: o.Recipe = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    threads: o.Threads = None,
    as_json: o.Json = False,
) -> None:
    """Measure, plan, decompose, recover and measure again; leave a folder that anyone can load."""
    from tenfold import api
    from tenfold.cli import screen
    from tenfold.cli.border import asked_for, check_out, dense_only, machine, prepare, trained_by
    from tenfold.cli.planned import plan_document, show_plan
    from tenfold.cli.reported import show_compressed
    from tenfold.cli.typed import COMMAND
    from tenfold.protocols import TenfoldError
    from tenfold.storage import JSON, alone, check_storable, with_sources

    if out is None and not dry_run:
        raise TenfoldError("nowhere to write; give --out FOLDER, or --dry-run to see the plan only.")
    where = machine(device, threads)
    how = trained_by(mixed_precision, accumulate, average, shard, checkpoint_minutes)
    if out is not None and not dry_run:
        check_out(out, overwrite)
    asked = asked_for(
        layer, params=params, macs=macs, bytes=bytes, deployed_params=deployed_params, time=time,
        allow_slower=allow_slower or None, runtime=runtime, dtype=dtype, of=of, energy=energy, ranks=ranks,
        max_error=max_error, allocation=allocation, multiple=multiple, bits=bits, format=format, include=include,
        exclude=exclude,
    )  # fmt: skip
    api.Training(epochs, bn, distill, lr).check(has_data=data is not None)
    goal = api.Goal.of(max_drop, objective)
    api.check_one(plan, asked, batch, *(["max_drop"] if goal is not None else []))
    if goal is not None and dry_run:
        raise TenfoldError("--max-drop compresses networks to judge them, so --dry-run has nothing to show; leave one.")
    read = None if plan is None else api.plan_from(plan)
    given = prepare(
        model, weights=weights, data=data, task=task, shapes=input, batch_dim=batch_dim, mean=mean, std=std,
        batch_size=batch_size, seed=seed, trust_code=trust_code, calibrate_data=calibrate_data,
    )  # fmt: skip
    dense_only(given.opened, model)
    if dry_run:
        with screen.bar() as watch:
            found, expected = api.foreseen(
                given.opened.model, given.data, inputs=given.inputs, plan=read, batch=batch, seed=seed, profile=profile,
                calibrate=calibrate, calibration=given.calibration, watch=watch, **asked,
            )  # fmt: skip
        if as_json:
            screen.show_json(plan_document(found, expected))
        else:
            show_plan(found, expected)
        return
    assert out is not None
    check_storable(given.opened.model)
    document = with_sources(given.document)
    state = out / "state"
    settings: dict[str, JSON] = {
        "command": COMMAND.get(),
        "recipe": recipe_of(ctx),
        "model": model,
        "weights": None if weights is None else str(weights),
        "data": data,
        **({} if task is None else {"task": task}),
        "batch_size": batch_size,
        **({} if plan is None else {"plan": str(plan)}),
    }
    with alone(out), screen.resumable(state), screen.bar() as watch:
        result = api.compress(
            given.opened.model, given.data, inputs=given.inputs, plan=read, batch=batch, max_drop=max_drop,
            objective=objective, memory=memory,
            calibrate=calibrate, calibration=given.calibration, reconstruct=reconstruct, distil=distil, epochs=epochs,
            bn=bn, distill=distill, lr=lr, seed=seed, device=where, machine=how, profile=profile, state=state,
            document=document, settings=settings, watch=watch, **asked,
        )  # fmt: skip
        api.save(result, out, overwrite=overwrite)
    if as_json:
        screen.show_json(result.report.to_json().rstrip("\n"))
    else:
        show_compressed(result, out)
