"""What was measured, and the medians of it. Pure: no clock, no processes."""

from dataclasses import dataclass, field
from statistics import median

from .load import Sample

__all__ = ["Figures", "Medians", "Soak"]


@dataclass(frozen=True)
class Medians:
    """Medians over the rounds. Latencies in milliseconds."""

    rate: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Soak:
    """Resident bytes of a pair of processes, after `calls[0]` and after `calls[1]` calls."""

    calls: tuple[int, int]
    client: tuple[int, int]
    server: tuple[int, int]

    def growth(self, side: str) -> int:
        before, after = self.client if side == "client" else self.server
        return after - before


@dataclass
class Figures:
    """All samples of a run by contender and callers; failures and soaks by contender."""

    samples: dict[str, dict[int, list[Sample]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    soaks: dict[str, Soak] = field(default_factory=dict)
    crowds: dict[str, float] = field(default_factory=dict)  # resident bytes of the server for each idle peer

    def add(self, name: str, callers: int, sample: Sample) -> None:
        self.samples.setdefault(name, {}).setdefault(callers, []).append(sample)

    def callers(self) -> list[int]:
        return sorted({callers for rows in self.samples.values() for callers in rows})

    def medians(self, name: str, callers: int) -> Medians | None:
        """None when the contender was not measured with so many callers."""
        samples = self.samples.get(name, {}).get(callers)
        if not samples:
            return None
        return Medians(
            rate=median(s.rate for s in samples),
            p50=median(s.p50 for s in samples),
            p99=median(s.p99 for s in samples),
        )

    def ratio(self, name: str, other: str, callers: int) -> float | None:
        """Calls a second of `name` over those of `other`; None when either was not measured."""
        one, base = self.medians(name, callers), self.medians(other, callers)
        return one.rate / base.rate if one and base else None
