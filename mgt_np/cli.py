"""The command line: `mgt-np reproduce`, `compare`, `reference`, `benchmark` and `info`."""

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from mgt_np.arrays.libraries import INSTALL, devices_of, namespace_named, place


def main(argv=None):
    """Run a command and return its exit code.

    0 done, 1 a comparison found something wrong, 2 unusable arguments, 130 interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments, shlex.join(["mgt-np", *argv]))
    except (ValueError, TypeError, OSError) as error:
        print(f"mgt-np: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mgt-np: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="mgt-np", description="The Manifold-Geometric Transformer and its relatives."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    reproduce = commands.add_parser(
        "reproduce", help="run experiments: figures, rows, and the claims table"
    )
    reproduce.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    reproduce.add_argument("--list", action="store_true", help="name the experiments and stop")
    reproduce.add_argument("--full", action="store_true", help="the full settings, not the quick")
    reproduce.add_argument("--seed", type=int, metavar="N", help="default: 0")
    reproduce.add_argument("--data", metavar="SOURCE", help="python-docs (default) or wikitext-2")
    reproduce.add_argument(
        "--out", type=Path, default=Path("figures"), metavar="DIR", help="default: figures/"
    )
    reproduce.add_argument(
        "--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes; default: cores"
    )
    reproduce.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask scheduler to work on")
    reproduce.add_argument(
        "--array-library",
        default="numpy",
        metavar="NAME",
        help="numpy (default), cupy, torch, jax, or auto: CuPy if a device of it answers",
    )
    reproduce.add_argument("--device", metavar="D", help="one of the library's devices")
    reproduce.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    reproduce.set_defaults(command=_reproduce)

    benchmark = commands.add_parser(
        "benchmark", help="training step and forward pass beside the peers that are installed"
    )
    benchmark.add_argument("--shape", default="wide", help="wide (default), deep or tiny")
    benchmark.add_argument("--rule", default="mgt", help="residual rule; default: mgt")
    benchmark.add_argument(
        "--against", metavar="RULE", help="a second rule, to time mgt_np under beside the others"
    )
    benchmark.add_argument(
        "--implementations", metavar="A,B,C", help="those alone, beside mgt_np; default: all"
    )
    benchmark.add_argument("--rounds", type=int, default=15, metavar="N", help="default: 15")
    benchmark.add_argument("--json", action="store_true", help="print JSON instead of tables")
    benchmark.set_defaults(command=_benchmark)

    _add_comparing(commands)

    info = commands.add_parser("info", help="versions, array libraries, devices and data found")
    info.set_defaults(command=_info)
    return parser


def _add_comparing(commands):
    compare = commands.add_parser(
        "compare", help="a verdict on somebody else's layers: right, or wrong and how"
    )
    compare.add_argument(
        "target",
        metavar="TARGET",
        help="a Python file or module with functions of the contract's names, FILE:NAME or "
        "MODULE:NAME for a layer with --adapter, or a file of vectors (.safetensors, .npz)",
    )
    compare.add_argument("--adapter", metavar="NAME", help="the layout of another library's layer")
    compare.add_argument(
        "--follows", metavar="CONVENTION", help="a convention that the target means to follow"
    )
    compare.add_argument(
        "--dtype", default="float64,float32", metavar="A,B", help="default: float64,float32"
    )
    compare.add_argument("--only", metavar="A,B", help="those functions alone")
    compare.add_argument("--json", action="store_true", help="print JSON instead of a table")
    compare.set_defaults(command=_compare)

    reference = commands.add_parser(
        "reference", help="write the frozen vectors: inputs, outputs, gradients and noise"
    )
    reference.add_argument("--out", type=Path, required=True, metavar="DIR")
    reference.add_argument("--npz", action="store_true", help="as .npz instead of .safetensors")
    reference.set_defaults(command=_reference)


def _reproduce(arguments, command):
    from mgt_np import experiments

    if arguments.list:
        for name, experiment in experiments.EXPERIMENTS.items():
            print(f"{name:16} {experiment.question}")
        return 0
    if arguments.jobs < 1:
        raise ValueError(f"expected --jobs to be at least 1, got {arguments.jobs}")
    if arguments.scheduler and find_spec("distributed") is None:
        raise ValueError("--scheduler needs Dask: pip install 'mgt-np[distributed]'")
    chosen = _chosen(arguments.names, experiments.EXPERIMENTS)
    there = place(arguments.array_library, arguments.device, dtype=arguments.dtype)
    if arguments.array_library == "auto":
        print(f"computing with {there}", file=sys.stderr)
    arguments.array_library = there.name
    table = []
    for experiment in chosen:
        settings = _settings(experiment, arguments)
        partial_path = arguments.out / f".{experiment.name}.partial.jsonl"
        result = experiments.run(
            experiment,
            settings,
            jobs=arguments.jobs,
            scheduler=arguments.scheduler,
            partial_path=partial_path,
            command=command,
        )
        claims = experiment.claims(result)
        experiments.write(result, claims, experiment.plot(result), arguments.out)
        partial_path.unlink()
        table += [(f"{experiment.name}.png", claim) for claim in claims]
    width = shutil.get_terminal_size((120, 24)).columns
    print(experiments.claims_table(table, width=max(80, min(width, 160))))
    print(f"\nfigures, rows and provenance are in {arguments.out}{os.sep}")
    return 0


def _chosen(names, known):
    from mgt_np.arrays.checks import one_of

    for name in names:
        one_of(known, **{"the experiment": name})
    return [known[name] for name in (dict.fromkeys(names) or known)]


def _settings(experiment, arguments):
    settings = experiment.full if arguments.full else experiment.quick
    names = ("seed", "data", "array_library", "device", "dtype")
    changes = {name: getattr(arguments, name) for name in names}
    fields = {field.name for field in dataclasses.fields(settings)}
    return dataclasses.replace(
        settings,
        **{name: v for name, v in changes.items() if v is not None and name in fields},
    )


def _benchmark(arguments, command):
    from mgt_np import benchmark

    if "OPENBLAS_CORETYPE" in os.environ:
        print("mgt-np: OPENBLAS_CORETYPE is set: it slows NumPy; unset it", file=sys.stderr)
    names = arguments.implementations and arguments.implementations.replace(" ", "").split(",")
    record = benchmark.benchmark(
        arguments.shape,
        arguments.rule,
        names,
        against=arguments.against,
        rounds=arguments.rounds,
        command=command,
    )
    print(json.dumps(record, indent=2) if arguments.json else "\n".join(benchmark.lines(record)))
    if not record["agree"]:
        print("mgt-np: the implementations differ; nothing was timed", file=sys.stderr)
    return 0 if record["agree"] else 1


def _compare(arguments, command):
    from mgt_np import crosscheck

    only = None if arguments.only is None else tuple(arguments.only.split(","))
    bar = None if arguments.json or not sys.stderr.isatty() else _Progress()
    if Path(arguments.target).suffix in (".safetensors", ".npz") and not arguments.adapter:
        target = Path(arguments.target)
        options = {}
    else:
        target = _target(arguments.target)
        options = {"dtypes": tuple(arguments.dtype.split(","))}
    if arguments.adapter:
        report = crosscheck.compare(target, adapter=arguments.adapter)
    else:
        report = crosscheck.compare(
            target, follows=arguments.follows, only=only, progress=bar, **options
        )
    print(report.to_json() if arguments.json else report)
    return 0 if report.ok else 1


class _Progress:
    """Says on the terminal which function is being compared."""

    def __init__(self):
        self.n = 0

    def __call__(self, name, total):
        self.n += 1
        print(f"\r\x1b[K{self.n} of {total}: {name}", end="", file=sys.stderr, flush=True)
        if self.n == total:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _target(text):
    """Import a module by its name or its file, and what is named behind a colon in it."""
    place, colon, name = text.partition(":")
    try:
        if place.endswith(".py"):
            spec = spec_from_file_location(Path(place).stem, place)
            module = module_from_spec(spec)
            sys.path.insert(0, str(Path(place).resolve().parent))  # as `python FILE` does
            sys.modules.setdefault(module.__name__, module)  # dataclasses look for it there
            spec.loader.exec_module(module)
        else:
            sys.path.insert(0, os.getcwd())
            module = import_module(place)
        return getattr(module, name) if colon else module
    except (Exception, SystemExit) as error:  # whatever the other side's code raises
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"compare: {text} cannot be imported: {said}") from None


def _reference(arguments, command):
    from mgt_np.crosscheck import vectors

    for path in vectors.write(arguments.out, npz=arguments.npz):
        print(path)
    return 0


def _info(arguments, command):
    from mgt_np.data import find_wikitext_2
    from mgt_np.experiments.experiment import versions

    print("versions")
    for name, version in versions().items():
        print(f"  {name:18} {version}")
    print("array libraries")
    for name in ("numpy", *INSTALL, "array_api_strict"):
        print(f"  {name:18} {_devices(name)}")
    print("data")
    print(f"  {'python-docs':18} with every Python")
    found = find_wikitext_2("train")
    print(f"  {'wikitext-2':18} {found or 'not here: downloaded when first asked for'}")
    return 0


def _devices(library):
    """The version of an array library and the devices that it finds, in words."""
    if find_spec(library) is None:
        return "not installed"
    try:
        version = import_module(library).__version__
    except Exception as error:  # a GPU library without its drivers, say
        return f"installed, but importing it fails: {error}"
    try:
        xp, _ = namespace_named(library)
        return f"{version}: {', '.join(map(str, devices_of(xp)))}"
    except Exception as error:  # a GPU library without a GPU raises errors of its own
        return f"{version}: no device answers ({type(error).__name__})"
