"""`tenfold demo`: the main job on data that comes with scikit-learn."""

from pathlib import Path

from tenfold.cli import options as o

NETWORK, DATA = "digits-cnn", "digits"


def demo(
    out: o.DemoOut = Path("tenfold-demo"),
    overwrite: o.Overwrite = False,
    seed: o.Seed = 0,
    threads: o.Threads = None,
    as_json: o.Json = False,
) -> None:
    """Train a small network on 8 x 8 digits, compress it 10x, recover, show what was gained, write the folder."""
    from dataclasses import replace

    from tenfold import api, storage
    from tenfold.cli import screen
    from tenfold.cli.border import check_out, machine
    from tenfold.cli.reported import show_compressed
    from tenfold.cli.typed import COMMAND
    from tenfold.data import load_data

    machine(None, threads)
    mine = storage.is_folder(out) and bool(storage.read_document(out).settings.get("demo"))
    check_out(out, overwrite or mine)
    api.Training(epochs=1).check(has_data=True)
    opened = api.open_network(NETWORK, seed=seed)
    data = load_data(DATA, mean=opened.mean, std=opened.std, batch_size=64, seed=seed)
    screen.note("1. Train digits-cnn on 1,079 images of handwritten digits, 8 x 8 pixels, from scikit-learn.")
    with screen.bar() as watch:
        dense = api.recover(opened.model, data, epochs=15, lr=0.1, bn=False, seed=seed, watch=watch)
    screen.note("2. Compress it: every weight becomes a tensor network, ten times fewer parameters in all.")
    screen.note("3. Recover: batch norms estimated anew, then 20 epochs of fine-tuning on the same images.")
    settings: dict[str, storage.JSON] = {"command": COMMAND.get(), "model": NETWORK, "data": DATA, "batch_size": 64}
    with screen.bar() as watch:
        result = api.compress(
            dense, data, params="10x", epochs=20, lr=0.05, distill=0.0, seed=seed,
            document=replace(opened.document, settings={"demo": True}), settings=settings, watch=watch,
        )  # fmt: skip
    screen.note("4. Write the folder, and judge both on 359 images that neither training nor these settings have seen.")
    with storage.alone(out):
        api.save(result, out, overwrite=True)
    if as_json:
        screen.show_json(result.report.to_json().rstrip("\n"))
        return
    show_compressed(result, out)
    screen.say_unbroken(f"Next: tenfold evaluate {out} --data {DATA}")
