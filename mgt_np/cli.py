"""The command line: `mgt-np reproduce`, `train`, `generate`, `compare`, … and `info`."""

import argparse
import json
import os
import shlex
import shutil
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

from mgt_np.arrays.checks import one_of
from mgt_np.arrays.libraries import INSTALL, devices_of, namespace_named, place


def main(argv=None):
    """Run a command and return its exit code.

    0 done, 1 a comparison found something wrong, 2 unusable arguments or cells that failed,
    130 interrupted, 141 nobody reads what is printed.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an encoding without β must not stop a command
            stream.reconfigure(errors="replace")
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    try:
        words = [word for word in argv if word != "--redraw"]  # which makes no other result
        return arguments.command(arguments, shlex.join(["mgt-np", *words]))
    except BrokenPipeError:
        return 141
    except (ValueError, TypeError, OSError) as error:
        _complain(error)
        return 2
    except KeyboardInterrupt:
        _complain("interrupted; the same command goes on from here")
        return 130


def _print(*lines):
    """Print lines; where they cannot be written, say so of standard output, and print no more."""
    try:
        print(*lines, sep="\n", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise type(error)(error.errno, error.strerror, "standard output") from None


def _complain(said):
    """Say something in one line on standard error, if there is one."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(f"mgt-np: {said}", file=sys.stderr, flush=True)


def _cores():
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _parser():
    parser = argparse.ArgumentParser(
        prog="mgt-np",
        description="The Manifold-Geometric Transformer and its relatives.",
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    commands = SimpleNamespace(add_parser=partial(subparsers.add_parser, allow_abbrev=False))

    _add_reproducing(commands)
    _add_training(commands)

    benchmark = commands.add_parser(
        "benchmark", help="training step, with AdamW too, and forward pass, beside installed peers"
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


def _add_reproducing(commands):
    reproduce = commands.add_parser(
        "reproduce", help="run experiments: figures, rows, and the claims table"
    )
    option = reproduce.add_argument
    option("names", nargs="*", metavar="NAME", help="default: all of them")
    option("--list", action="store_true", help="name the experiments and stop")
    option("--full", action="store_true", help="the full settings, not the quick")
    option("--redraw", action="store_true", help="from the rows that are there, computing nothing")
    option("--seed", type=int, metavar="N", help="default: 0")
    option(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting: --set depth=50 --set rules=mgt,pre_ln",
    )
    option("--data", metavar="SOURCE", help="python-docs or wikitext-2; default: the experiment's")
    option("--out", type=Path, metavar="DIR", help="default: figures/, with --full figures/full/")
    option(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where finished cells are kept; default: runs/",
    )
    option("--jobs", type=int, default=_cores(), metavar="N", help="processes; default: cores")
    option("--scheduler", metavar="ADDRESS", help="of a Dask scheduler to work on")
    option(
        "--array-library",
        default="numpy",
        metavar="NAME",
        help="numpy (default), cupy, torch, jax, or auto: CuPy if a device of it answers",
    )
    option("--device", metavar="D", help="one of the library's devices")
    option("--dtype", choices=("float32", "float64"), help="default: the experiment's")
    option(
        "--findings", type=Path, metavar="FILE", help="renew the table of findings in this Markdown"
    )
    reproduce.set_defaults(command=_reproduce)


def _add_training(commands):
    train = commands.add_parser("train", help="train a language model, or one that copies")
    option = train.add_argument
    option("--rule", dest="residual", metavar="R", help="residual rule; default: mgt")
    option(
        "--data",
        metavar="SOURCE",
        help="python-docs (default), wikitext-2, known-entropy or copy",
    )
    option("--level", choices=("bytes", "words"), help="of texts; default: bytes")
    for name, field, words in (
        ("--layers", "n_layers", "blocks; default: 4"),
        ("--width", "d_model", "features; default: 64"),
        ("--heads", "n_heads", "default: 4"),
        ("--steps", "n_steps", "default: 1000"),
        ("--batch", "batch", "sequences a step; default: 8"),
        ("--tokens", "n_tokens", "tokens a sequence; default: 64"),
        ("--seed", "seed", "default: 0"),
    ):
        option(name, dest=field, type=int, metavar="N", help=words)
    option("--lr", type=float, metavar="X", help="peak learning rate; default: 0.003")
    option(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting: --set mgt_alpha=1 --set warmup=200",
    )
    option("--out", type=Path, default=Path("trained"), metavar="DIR", help="default: trained/")
    option("--resume", type=Path, metavar="DIR", help="go on with the run in DIR")
    option("--array-library", metavar="NAME", help="numpy (default), cupy, torch or jax")
    option("--device", metavar="D", help="one of the library's devices")
    option("--dtype", choices=("float32", "float64"), help="default: float32")
    train.set_defaults(command=_train)

    generate = commands.add_parser("generate", help="text from a trained model")
    option = generate.add_argument
    option("folder", type=Path, metavar="DIR", help="what `mgt-np train` wrote")
    option("--prompt", default="The ", metavar="TEXT", help="default: 'The '")
    option("--tokens", type=int, default=200, metavar="N", help="default: 200")
    option("--temperature", type=float, default=0.8, metavar="T", help="0: the likeliest token")
    option("--seed", type=int, default=0, metavar="N", help="default: 0")
    generate.set_defaults(command=_generate)

    export = commands.add_parser("export", help="a trained model's parameters as .safetensors")
    option = export.add_argument
    option("folder", type=Path, metavar="DIR", help="what `mgt-np train` wrote")
    option("--out", type=Path, metavar="FILE", help="default: DIR/model.safetensors")
    export.set_defaults(command=_export)


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

    known = experiments.EXPERIMENTS
    if arguments.list:
        _print(*(f"{name:20} {each.question}" for name, each in known.items()))
        return 0
    if arguments.jobs < 1:
        raise ValueError(f"expected --jobs to be at least 1, got {arguments.jobs}")
    if arguments.scheduler is not None and find_spec("distributed") is None:
        raise ValueError("--scheduler needs Dask: pip install 'mgt-np[distributed]'")
    plans = _plans(arguments, [known[name] for name in _chosen(arguments.names, known)])
    out = arguments.out or Path("figures") / ("full" if arguments.full else "")
    if arguments.full and (out / "full").exists():
        raise ValueError(f"--full: expected --out without a folder full/ in it, got {out}")
    if arguments.findings:
        if arguments.names:
            raise ValueError("--findings: expected no names, since its table is of all experiments")
        experiments.write_findings(arguments.findings)  # it can be done, or the run need not begin
    if not arguments.redraw:
        for folder in (arguments.runs, out):
            folder.mkdir(parents=True, exist_ok=True)
    report = experiments.run(
        plans,
        jobs=arguments.jobs,
        scheduler=arguments.scheduler,
        runs=arguments.runs.absolute(),
        command=command,
        saved=out if arguments.redraw else None,
    )
    for warning in report.warnings:
        _complain(warning)
    table, written = _write(report.results, known, out)
    width = shutil.get_terminal_size((120, 24)).columns
    if table:
        _print(
            experiments.claims_table(table, width=max(80, min(width, 160))),
            f"\nfigures, rows and provenance are in {out}{os.sep}",
        )
    for task, said in report.failures:
        _complain(f"{task.name} {json.dumps(task.cell, ensure_ascii=False)}: {said}")
    if report.failures:
        how = "leave out --redraw" if arguments.redraw else "the same command goes on from here"
        _complain(f"cells that are missing: {len(report.failures)}; {how}")
    folder = arguments.out or Path("figures")
    page = folder / "claims.md"
    if table and (arguments.full or page.exists()):  # never a page of other records than these
        experiments.write_claims(page, experiments.recorded(known, folder))
    if report.failures or not written:
        return 2
    if arguments.findings:
        all_claims = experiments.verdicts_of(experiments.recorded(known, folder))
        experiments.write_findings(arguments.findings, all_claims)
    return 0


def _plans(arguments, chosen):
    from mgt_np.settings import plans

    there = place(arguments.array_library, arguments.device, dtype=arguments.dtype or "float64")
    if arguments.array_library == "auto":
        _complain(f"computing with {there}")
    given = {name: getattr(arguments, name) for name in ("seed", "data", "device", "dtype")}
    given["array_library"] = there.name
    return plans(chosen, full=arguments.full, given=given, changes=arguments.set)


def _write(results, known, folder):
    """Write each result; return all verdicts with their figures, and whether all are written."""
    from mgt_np import experiments

    table, written = [], True
    for result in results:
        try:
            verdicts = experiments.write(known[result.name], result, folder)
        except Exception as error:  # one that cannot be judged or drawn costs the others nothing
            said = f"{type(error).__name__}: {error}".partition("\n")[0]
            _complain(f"{result.name} is not written: {said}")
            written = False
            continue
        table += [(f"{result.name}.png", each) for each in verdicts]
    return table, written


def _chosen(names, known):
    for name in names:
        one_of(known, **{"the experiment": name})
    return dict.fromkeys(names) or known


_TRAINED = (
    *("residual", "data", "level", "n_layers", "d_model", "n_heads", "n_steps", "batch"),
    *("n_tokens", "seed", "lr", "array_library", "device", "dtype"),
)


def _train(arguments, command):
    from mgt_np.training.command import train_command

    try:
        folder, log = train_command(
            {name: getattr(arguments, name) for name in _TRAINED},
            arguments.set,
            out=arguments.out,
            resume=arguments.resume,
            progress=sys.stderr is not None and sys.stderr.isatty(),
        )
    except KeyboardInterrupt:
        folder = arguments.resume or arguments.out
        _complain(f"interrupted; `mgt-np train --resume {folder}` goes on from here")
        return 130
    last = log[-1] if log else {"step": 0}
    words = ", ".join(
        f"{name.replace('_', ' ')} {value:.4g}" for name, value in last.items() if value == value
    )
    _print(words, f"log.csv, layers.csv and checkpoint.npz are in {folder}{os.sep}")
    return 0


def _generate(arguments, command):
    from mgt_np.training.command import generate_command

    _print(
        generate_command(
            arguments.folder,
            prompt=arguments.prompt,
            n_tokens=arguments.tokens,
            temperature=arguments.temperature,
            seed=arguments.seed,
        )
    )
    return 0


def _export(arguments, command):
    from mgt_np.training import export

    _print(export(arguments.folder, arguments.out))
    return 0


def _benchmark(arguments, command):
    from mgt_np import benchmark

    if "OPENBLAS_CORETYPE" in os.environ:
        _complain("OPENBLAS_CORETYPE is set: it slows NumPy; unset it")
    names = arguments.implementations and arguments.implementations.replace(" ", "").split(",")
    record = benchmark.benchmark(
        arguments.shape,
        arguments.rule,
        names,
        against=arguments.against,
        rounds=arguments.rounds,
        command=command,
    )
    _print(json.dumps(record, indent=2) if arguments.json else "\n".join(benchmark.lines(record)))
    if not record["agree"]:
        _complain("the implementations differ; nothing was timed")
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
    _print(report.to_json() if arguments.json else report)
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
        _print(path)
    return 0


def _info(arguments, command):
    from mgt_np.data import find_wikitext_2
    from mgt_np.runs import versions

    found = find_wikitext_2("train")
    _print(
        "versions",
        *(f"  {name:18} {version}" for name, version in versions().items()),
        "array libraries",
        *(f"  {name:18} {_devices(name)}" for name in ("numpy", *INSTALL, "array_api_strict")),
        "data",
        f"  {'python-docs':18} with every Python",
        f"  {'wikitext-2':18} {found or 'not here: downloaded when first asked for'}",
    )
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
