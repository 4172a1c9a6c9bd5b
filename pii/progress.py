"""What is done of a long work: a bar on a terminal and in a notebook, plain lines in a log."""

import importlib.util
import sys

from tqdm import tqdm

INTERVAL = 30.0  # seconds between two lines of a log, at least
tqdm.monitor_interval = 0  # its thread would be running when worker processes are forked


class Lines(tqdm):
    """A bar for what is no terminal: a line now and then, and one at the end of what went well."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        print(msg or str(self), file=self.fp, flush=True)
        return True

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None and not self.disable:
            self.display()
        self.close()

    def close(self) -> None:
        self.disable = True  # tqdm's own would end the line once more


def progress(what: str, total: int | None = None, unit: str = "tok", quiet: bool = False) -> tqdm:
    """A context manager with tqdm's `update(n)` and `set_postfix_str(text, refresh=False)`, on standard error.

    In a log it prints a line every INTERVAL seconds at most and one at the end, but none after an exception: an error
    stays one line. `quiet` prints nothing, as TQDM_DISABLE=1 does.
    """
    if sys.stderr is None:
        quiet = True
    common = {"desc": what, "total": total, "unit": unit, "unit_scale": total is not None}
    if quiet:
        return tqdm(disable=True)
    if sys.stderr.isatty():
        return tqdm(**common)
    if "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets"):
        from tqdm.notebook import tqdm as notebook_bar

        return notebook_bar(**common)
    share = "/{total_fmt} {unit} ({percentage:.0f}%)" if total else " {unit}"
    left = ", {remaining} left" if total else ""
    line = f"{{desc}}: {{n_fmt}}{share}, {{rate_fmt}}, {{elapsed}} passed{left}{{postfix}}"
    return Lines(**common, bar_format=line, mininterval=INTERVAL, miniters=1, delay=INTERVAL, smoothing=0)
