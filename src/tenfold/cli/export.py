"""`tenfold export`."""

from tenfold.cli import options as o


def export(
    model: o.Model,
    out: o.ExportOut,
    weights: o.Weights = None,
    data: o.DataSpec = None,
    input: o.Input = None,
    batch_dim: o.BatchDim = None,
    batch_size: o.BatchSize = 128,
    trust_code: o.TrustCode = False,
    overwrite: o.Overwrite = False,
    seed: o.Seed = 0,
    threads: o.Threads = None,
    as_json: o.Json = False,
) -> None:
    """Write a file that runs without tenfold: model.onnx or model.pt2, checked, any batch size."""
    from tenfold import api
    from tenfold.cli import screen
    from tenfold.cli.border import machine, prepare
    from tenfold.protocols import TenfoldError
    from tenfold.report import export_sentences, export_table

    machine(None, threads)
    api.check_export(out, overwrite)
    given = prepare(
        model, weights=weights, data=data, shapes=input, batch_dim=batch_dim, batch_size=batch_size, seed=seed,
        trust_code=trust_code,
    )  # fmt: skip
    network = given.opened.model
    inputs = api.given_inputs(network, given.data, given.inputs)
    if inputs is None:
        raise TenfoldError(
            f"'{model}' does not say what it is given; give --input 3x224x224 (once for each input), or --data."
        )
    dense = api.dense_of(model, given.opened)
    with screen.bar() as watch:
        found = api.export(network, inputs, out, dense=dense, overwrite=overwrite, watch=watch)
    if as_json:
        screen.show_json(found.document())
        return
    screen.show(export_table(found))
    screen.say_unbroken(*export_sentences(found))
