"""The command line: all verbs, and the one place that turns errors into sentences. Nothing imports this package."""

import io
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from ldm_export.cli.analyze import analyze
from ldm_export.cli.bench import bench
from ldm_export.cli.build import build
from ldm_export.cli.data import data
from ldm_export.cli.engines import engines
from ldm_export.cli.inspect import inspect
from ldm_export.cli.interpolate import interpolate
from ldm_export.cli.plan import plan
from ldm_export.cli.run import run
from ldm_export.cli.train import train
from ldm_export.cli.tune import tune
from ldm_export.cli.verify import verify
from ldm_export.process.streams import echo, guard_streams
from ldm_export.process.termination import end_on_request
from ldm_runtime import __version__
from ldm_runtime.errors import FormatError, LdmError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Verbs(click.Group):
    """The group of all verbs, which turns an error into a sentence on stderr and an exit code.

    1: an error of the input or the machine; 2: of the command line; 70: a fault of this program; 130: Ctrl-C.
    """

    debug = False  # whether the traceback is shown too

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.append(self._debug_option())

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.params.append(self._debug_option())
        super().add_command(cmd, name)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        sys.exit(self.answer(sys.argv[1:] if args is None else args, prog_name or "ldm-export", **extra))

    def answer(self, arguments: Sequence[str], name: str, **extra: Any) -> int:
        """Run a command line and return its exit code."""
        self.debug = False
        try:
            self._main_shell_completion({}, name)
            with self.make_context(name, list(arguments), **extra) as context:
                self.invoke(context)
            return 0
        except click.exceptions.Exit as ended:
            return ended.exit_code
        except click.ClickException as error:
            usage = io.StringIO()
            error.show(usage)
            echo(usage.getvalue().rstrip("\n"), err=True)
            return error.exit_code
        except (KeyboardInterrupt, Exception) as error:
            if self.debug:
                from ldm_export.process.faults import print_traceback

                print_traceback(error)
            sentence, code = self._explain(error, arguments)
            echo(sentence, err=True)
            return code

    def _explain(self, error: BaseException, arguments: Sequence[str]) -> tuple[str, int]:
        if isinstance(error, KeyboardInterrupt | click.Abort):
            return "interrupted", 128 + signal.SIGINT
        if isinstance(error, LdmError) and type(error) is not FormatError:  # a fact that no border gave advice on
            return f"error: {error}", 1
        from ldm_export.process.out_of_memory import is_out_of_memory

        if is_out_of_memory(error):
            return "error: the machine ran out of memory; ask for less at once or use a larger one", 1
        if isinstance(error, ModuleNotFoundError):
            extra = _extra_of(error.name, next((each for each in arguments if each in self.commands), None))
            if extra is not None:
                what = f"this verb needs {error.name}, which is not installed"
                return f"error: {what}; install it with: pip install 'ldm-export[{extra}]'", 1
        from ldm_export.process.faults import EXIT_CODE, explain  # its imports would slow every start

        return explain(error, arguments), EXIT_CODE

    def _debug_option(self) -> click.Option:
        def set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
            self.debug = self.debug or value

        return click.Option(
            ["--debug"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=set_debug,
            help="Show the traceback of an error too.",
        )


def _extra_of(module: str | None, verb: str | None) -> str | None:
    """Return the extra of this project that installs a module which `verb` needs, or None if no extra does."""
    modules = ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "h5py", "resvg_py", "scipy")
    if module is None or module.partition(".")[0] not in modules:
        return None
    if verb == "analyze":
        return verb
    return "train" if verb in ("train", "data") else "export"


@click.group(cls=Verbs, context_settings=CONTEXT)
@click.version_option(__version__)
def verbs() -> None:
    """Take a latent diffusion model to the edge: load or train it, export it, prove it, run it without torch.

    \b
    Examples:
      ldm-export run --prompt "red apple, 3d style"
      ldm-export build ./my-checkpoint --out ./my-package
      ldm-export verify ./my-package
    """


for verb in (build, run, interpolate, plan, verify, analyze, engines, bench, tune, inspect, train, data):
    verbs.add_command(verb)


def main() -> None:
    """Run the command line with safe streams and signals. A result that cannot be printed is an error."""
    out, _ = guard_streams()
    end_on_request()
    code = verbs.answer(sys.argv[1:], "ldm-export")
    sys.stdout.flush()
    if out.lost is not None and code == 0:
        echo(f"error: the work is done, but its result could not be printed: {out.lost.strerror or out.lost}", err=True)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
