"""`tenfold inspect`."""

from tenfold.cli import options as o


def inspect(
    model: o.Model,
    weights: o.Weights = None,
    data: o.DataSpec = None,
    input: o.Input = None,
    batch_dim: o.BatchDim = None,
    batch_size: o.BatchSize = 128,
    trust_code: o.TrustCode = False,
    profile: o.Profile = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    threads: o.Threads = None,
    html: o.Html = None,
    as_json: o.Json = False,
) -> None:
    """Measure every layer: parameters, multiply-adds, time, memory, and whether it can gain."""
    from tenfold.api import given_inputs, profiled
    from tenfold.cli import screen
    from tenfold.cli.border import machine, prepare
    from tenfold.cli.typed import COMMAND
    from tenfold.report import notes, profile_table
    from tenfold.report.html import check_page, inspected_page, write_page
    from tenfold.storage import versions

    if html is not None:
        check_page(html)
    where = machine(device, threads)
    given = prepare(
        model, weights=weights, data=data, shapes=input, batch_dim=batch_dim, batch_size=batch_size, seed=seed,
        trust_code=trust_code, wants_weights=False,
    )  # fmt: skip
    network = given.opened.model if where is None else given.opened.model.to(where)
    found = profiled(network, given_inputs(network, given.data, given.inputs), profile=profile)
    if html is not None:
        write_page(html, inspected_page(model, found, COMMAND.get(), versions()))
    if as_json:
        screen.show_json(found.to_json().rstrip("\n"))
        return
    screen.show(profile_table(found, wide=screen.is_wide()))
    screen.say(*notes(found))
    if profile is not None:
        screen.say(f"Kept in {profile / 'profile.json'}.")
    if html is not None:
        screen.say_unbroken(f"The page: {html}")
