"""What is measured between two writes: samples become points of ten seconds, of one thing, in bounded memory."""

from __future__ import annotations

from panel.services.series import FIELDS, FINE, Values, encode

MOST_WAITING = 360  # points that wait while the database does not answer: an hour, as long as they are kept
NEVER = -FINE.step * 10


class Track:
    """The samples of one VM or host.

    Attributes:
        began: when the point at work begins.
        closed: points that are complete and not yet written, by the moment at which they begin.
    """

    __slots__ = ("_counts", "_sums", "began", "closed")

    def __init__(self) -> None:
        self.began = NEVER
        self.closed: dict[int, bytes] = {}
        self._sums: list[float] = []
        self._counts: list[int] = []

    def add(self, moment: float, values: Values, reach: float) -> None:
        """A sample: one value for each of ``FIELDS``, which hold for the time since the last sample.

        Points that began and ended since then get them too, unless more than ``reach`` seconds passed: a gap.
        """
        began = int(moment) // FINE.step * FINE.step
        if began != self.began or not self._sums:
            last = self.began
            self.close()
            if last < began <= last + reach:
                for missed in range(last + FINE.step, began, FINE.step):
                    self._keep(missed, encode(values))
            self.began, self._sums, self._counts = began, [0.0] * len(FIELDS), [0] * len(FIELDS)
        for place, value in enumerate(values):
            if value is not None:
                self._sums[place] += value
                self._counts[place] += 1

    def close(self) -> None:
        """End the point at work."""
        if self._sums:
            self._keep(self.began, self._point())
            self._sums = []

    def written(self, points: dict[int, bytes]) -> None:
        """These were written; what came meanwhile stays."""
        for moment, point in points.items():
            if self.closed.get(moment) is point:
                del self.closed[moment]

    def unwritten(self) -> dict[int, bytes]:
        """All points that only this memory knows, that at work among them."""
        return self.closed | {self.began: self._point()} if self._sums else dict(self.closed)

    def _point(self) -> bytes:
        return encode([total / n if n else None for total, n in zip(self._sums, self._counts, strict=True)])

    def _keep(self, moment: int, point: bytes) -> None:
        self.closed[moment] = point
        while len(self.closed) > MOST_WAITING:
            del self.closed[next(iter(self.closed))]
