"""`tenfold evaluate`."""

from tenfold.cli import options as o


def evaluate(
    models: o.Models,
    weights: o.Weights = None,
    data: o.DataSpec = None,
    task: o.Task = None,
    input: o.Input = None,
    batch_dim: o.BatchDim = None,
    mean: o.Mean = None,
    std: o.Std = None,
    batch_size: o.BatchSize = 128,
    trust_code: o.TrustCode = False,
    seed: o.Seed = 0,
    device: o.Device = None,
    threads: o.Threads = None,
    runtimes: o.Runtimes = False,
    html: o.Html = None,
    as_json: o.Json = False,
) -> None:
    """Score, size, multiply-adds, memory and time; several networks are put side by side, timed in turn."""
    from dataclasses import asdict

    from tenfold import api, storage
    from tenfold.cli import screen
    from tenfold.cli.border import machine, prepare
    from tenfold.cli.typed import COMMAND
    from tenfold.protocols import TenfoldError
    from tenfold.report import runtimes_table, side_by_side
    from tenfold.report.html import check_page, compared_page, write_page

    where = machine(device, threads)
    if html is not None:
        check_page(html)
    dense = [model for model in models if not storage.is_folder(model)]
    if len(set(models)) < len(models):
        raise TenfoldError("a network is named twice; name each once.")
    if weights is not None and len(dense) != 1:
        raise TenfoldError(f"--weights is for one dense network, and {len(dense)} are named.")
    given = {
        model: prepare(
            model, weights=weights if model in dense else None, data=data, task=task, shapes=input,
            batch_dim=batch_dim, mean=mean, std=std, batch_size=batch_size, seed=seed, trust_code=trust_code,
        )
        for model in models
    }  # fmt: skip
    subjects = {
        model: (each.opened.model if where is None else each.opened.model.to(where), each.data)
        for model, each in given.items()
    }
    inputs = next((each.inputs for each in given.values() if each.inputs is not None), None)
    with screen.bar() as watch:
        found = api.side_by_side(subjects, inputs=inputs, watch=watch)
    ways = api.in_runtimes(subjects, inputs=inputs) if runtimes else None
    if html is not None:
        write_page(html, compared_page(found, COMMAND.get(), storage.versions()))
    if as_json:
        beside = {} if ways is None else {"runtimes": ways.document()}
        screen.show_json({"schema": 1, "networks": {model: asdict(each) for model, each in found.items()}, **beside})
        return
    screen.show(side_by_side(found))
    if ways is not None:
        screen.show(runtimes_table(ways))
        screen.say(*ways.sentences)
    if data is not None:
        none = all(each.score is None for each in found.values())
        screen.say("The data has no test split, so nothing was judged." if none else "Judged on the test split.")
    if all(each.macs is None for each in found.values()):
        screen.say("Without inputs there are no multiply-adds, memory or time; give --input 3x224x224, or --data.")
    if html is not None:
        screen.say_unbroken(f"The page: {html}")
