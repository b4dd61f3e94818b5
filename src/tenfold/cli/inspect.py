"""`tenfold inspect`."""

from tenfold.cli import options as o


def inspect(
    model: o.Model,
    weights: o.Weights = None,
    data: o.DataSpec = None,
    input: o.Input = None,
    batch_size: o.BatchSize = 128,
    trust_code: o.TrustCode = False,
    profile: o.Profile = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    threads: o.Threads = None,
    as_json: o.Json = False,
) -> None:
    """Measure every layer: parameters, multiply-adds, time, memory, and whether it can gain."""
    from tenfold.api import first_inputs, profiled
    from tenfold.api.samples import one_sample
    from tenfold.cli import screen
    from tenfold.cli.border import machine, prepare
    from tenfold.report import notes, profile_table

    where = machine(device, threads)
    given = prepare(
        model, weights=weights, data=data, shapes=input, batch_size=batch_size, seed=seed, trust_code=trust_code,
        wants_weights=False,
    )  # fmt: skip
    network = given.opened.model if where is None else given.opened.model.to(where)
    inputs = first_inputs(given.data) if given.inputs is None and given.data is not None else given.inputs
    found = profiled(network, None if inputs is None else one_sample(network, inputs), profile=profile)
    if as_json:
        screen.show_json(found.to_json().rstrip("\n"))
        return
    screen.show(profile_table(found, wide=screen.is_wide()))
    screen.say(*notes(found))
    if profile is not None:
        screen.say(f"Kept in {profile / 'profile.json'}.")
