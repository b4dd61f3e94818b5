"""`tenfold plan`."""

from pathlib import Path

from tenfold.cli import options as o


def plan(
    model: o.Model,
    weights: o.Weights = None,
    data: o.DataSpec = None,
    input: o.Input = None,
    batch_dim: o.BatchDim = None,
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
    batch: o.Batch = None,
    frontier: o.Frontier = False,
    format: o.Format = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    layer: o.Layer = None,
    calibrate: o.Calibrate = None,
    calibrate_data: o.CalibrateData = None,
    out: o.PlanOut = None,
    overwrite: o.Overwrite = False,
    profile: o.Profile = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    threads: o.Threads = None,
    html: o.Html = None,
    as_json: o.Json = False,
) -> None:
    """Find what becomes of every layer under budgets or by a rule, and leave it as a file to edit."""
    from tenfold import api
    from tenfold.cli import screen
    from tenfold.cli.border import asked_for, dense_only, machine, prepare
    from tenfold.cli.planned import plan_document, show_frontier, show_plan
    from tenfold.cli.typed import COMMAND
    from tenfold.protocols import TenfoldError
    from tenfold.report import check_picture
    from tenfold.report.html import check_page, planned_page, write_page
    from tenfold.storage import versions

    where = machine(device, threads)
    if frontier and batch is not None:
        raise TenfoldError("--batch times the stages of one plan, and --frontier makes many; give one of them.")
    if frontier and html is not None:
        raise TenfoldError("--html shows one plan, and --frontier makes many; name a picture with --out instead.")
    if html is not None:
        check_page(html)
    written = out or Path("plan.yaml")
    if not frontier:
        api.check_file(written, overwrite)
    elif out is not None:
        check_picture(out, overwrite)
    asked = asked_for(
        layer, params=params, macs=macs, bytes=bytes, deployed_params=deployed_params, time=time,
        allow_slower=allow_slower or None, runtime=runtime, dtype=dtype, of=of, energy=energy, ranks=ranks,
        max_error=max_error, allocation=allocation, multiple=multiple, bits=bits, format=format, include=include,
        exclude=exclude,
    )  # fmt: skip
    given = prepare(
        model,
        weights=weights,
        data=data,
        shapes=input,
        batch_dim=batch_dim,
        batch_size=batch_size,
        seed=seed,
        trust_code=trust_code,
        calibrate_data=calibrate_data,
    )
    dense_only(given.opened, model)
    network = given.opened.model if where is None else given.opened.model.to(where)
    if frontier:
        with screen.bar() as watch:
            walked = api.frontier(
                network, given.data, inputs=given.inputs, seed=seed, profile=profile, calibrate=calibrate,
                calibration=given.calibration, watch=watch, **asked,
            )  # fmt: skip
        if out is not None:
            walked.draw(out, title=model, overwrite=overwrite)
        if as_json:
            screen.show_json(walked.to_json().rstrip("\n"))
        else:
            show_frontier(walked, out)
        return
    with screen.bar() as watch:
        found, expected = api.foreseen(
            network, given.data, inputs=given.inputs, batch=batch, seed=seed, profile=profile, calibrate=calibrate,
            calibration=given.calibration, watch=watch, **asked,
        )  # fmt: skip
    api.write_plan(written, found, overwrite=overwrite)
    if html is not None:
        numbers = plan_document(found, expected)
        write_page(
            html, planned_page(model, found, expected.layers, expected.spectra, numbers, COMMAND.get(), versions())
        )
    if as_json:
        screen.show_json(plan_document(found, expected))
        return
    show_plan(found, expected)
    if html is not None:
        screen.say_unbroken(f"The page: {html}")
    screen.say_unbroken(f"Written to {written}; edit it and hand it back:")
    screen.say_unbroken(f"    tenfold compress {model} --plan {written} --out FOLDER")
