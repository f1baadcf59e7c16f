"""What each workload should reach, beside what it did; only said, nothing fails by it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmark.model import MIB, REFERENCE, YARDSTICK, Result, Storage, Wish, amount, ratios


@dataclass(frozen=True)
class Verdict:
    """A ratio should be at least what is wanted; bytes, of wire or memory, at most."""

    workload: str
    what: str
    measured: float
    wanted: float
    stretch: float | None = None
    show: Callable[[float], str] = amount
    at_least: bool = False

    @property
    def word(self) -> str:
        if self.stretch is not None and self._meets(self.stretch):
            return "reached, with the stretch"
        return "reached" if self._meets(self.wanted) else "MISSED"

    def _meets(self, bound: float) -> bool:
        return self.measured >= bound if self.at_least else self.measured <= bound

    def cells(self) -> tuple[str, ...]:
        stretch = "" if self.stretch is None else self.show(self.stretch)
        bounds = self.show(self.measured), self.show(self.wanted), stretch
        return self.workload, self.what, *bounds, self.word


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """Of all workloads that netsync ran and somebody wished something for."""
    ratio = ratios(results)
    found: list[Verdict] = []
    for result in results:
        wish = result.workload.wish
        if result.program == REFERENCE and wish:
            share = ratio.get((result.workload.name, result.storage, YARDSTICK))
            judge = _on_disk if result.storage is Storage.DISK else _in_memory
            found += judge(result, wish, share)
    return found


def _on_disk(result: Result, wish: Wish, share: float | None) -> Iterator[Verdict]:
    if share and wish.disk_ratio:
        yield Verdict(
            result.workload.name,
            "ratio on disk",
            share,
            wish.disk_ratio,
            None,
            _ratio,
            at_least=True,
        )


def _in_memory(result: Result, wish: Wish, share: float | None) -> Iterator[Verdict]:
    name, middle = result.workload.name, result.median()
    if share:
        yield Verdict(name, "ratio", share, wish.ratio, wish.stretch, _ratio, at_least=True)
    if wish.wire:
        yield Verdict(name, "wire", middle.wire_bytes, wish.wire, wish.wire_stretch)
    yield Verdict(name, "RSS", middle.rss, wish.memory, None, _mebibytes)


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _mebibytes(count: float) -> str:
    return f"{count / MIB:.0f} MiB"
