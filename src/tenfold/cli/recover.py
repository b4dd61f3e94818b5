"""`tenfold recover`."""

from tenfold.cli import options as o


def recover(
    folder: o.Folder,
    data: o.DataSpec = None,
    task: o.Task = None,
    weights: o.TeacherWeights = None,
    mean: o.Mean = None,
    std: o.Std = None,
    batch_size: o.BatchSize = 128,
    trust_code: o.TrustCode = False,
    epochs: o.Epochs = 0,
    lr: o.Lr = 0.02,
    distill: o.Distill = 0.0,
    bn: o.Bn = True,
    mixed_precision: o.MixedPrecision = "no",
    accumulate: o.Accumulate = 1,
    average: o.Average = 0.0,
    shard: o.Shard = False,
    checkpoint_minutes: o.CheckpointMinutes = 10.0,
    seed: o.Seed = 0,
    device: o.Device = None,
    threads: o.Threads = None,
    as_json: o.Json = False,
) -> None:
    """Train a compressed network on; the folder is replaced when all is done, whole."""
    from pathlib import Path

    from tenfold import api, storage
    from tenfold.cli import screen
    from tenfold.cli.border import check_out, machine, prepare, trained_by
    from tenfold.cli.typed import COMMAND
    from tenfold.protocols import TenfoldError

    where = machine(device, threads)
    how = trained_by(mixed_precision, accumulate, average, shard, checkpoint_minutes)
    if not storage.is_folder(folder):
        raise TenfoldError(f"'{folder}' is not a folder that tenfold wrote; tenfold compress makes one.")
    if data is None:
        raise TenfoldError("there is nothing to recover on; give --data.")
    if (distill > 0) != (weights is not None):
        raise TenfoldError("--distill learns from the dense network; give --distill and --weights FILE together.")
    place = Path(folder)
    check_out(place, overwrite=True)
    api.Training(epochs, bn, distill, lr).check(has_data=True)
    given = prepare(
        folder, data=data, task=task, mean=mean, std=std, batch_size=batch_size, seed=seed, trust_code=trust_code
    )
    assert given.data is not None
    state = place / "state"
    settings: dict[str, storage.JSON] = {"command": COMMAND.get(), "data": data, "batch_size": batch_size}
    settings |= {} if task is None else {"task": task}
    settings |= {} if weights is None else {"weights": str(weights)}
    with storage.alone(place), screen.resumable(state), screen.bar() as watch:
        report = api.recover_folder(
            place, given.opened, given.data, document=given.document, weights=weights, epochs=epochs, bn=bn, lr=lr,
            distill=distill, seed=seed, device=where, machine=how, state=state, settings=settings, watch=watch,
        )  # fmt: skip
    if as_json:
        screen.show_json(report.to_json().rstrip("\n"))
        return
    from tenfold.report import summary_table
    from tenfold.report.words import outputs, score

    screen.show(summary_table(report))
    screen.say(*filter(None, [score(report), outputs(report)]), f"Written to {folder}")
