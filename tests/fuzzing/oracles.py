"""What may arrive at the other end, where the program itself does not know how much of it was sent or taken.

A send that is cancelled leaves open how many of its bytes have gone; a receive that is cancelled in the turn in which
it has received takes them along. So each oracle keeps the set of places at which the receiver may be. What arrives has
to continue one of them, byte by byte, or whole datagram by whole datagram.
"""

from typing import NamedTuple

from ends import Stream

PREFIX = 8
"""Bytes by which a place is looked for."""


HOLDS = 100_000
"""What the receive buffer of a UDP socket surely holds, in bytes of the kernel's memory."""


class Cut(NamedTuple):
    """A stretch of a stream that ends early: somewhere from `least` to `most`; the stream goes on at `end`."""

    least: int
    most: int
    end: int


class Direction(Stream):
    """A stream of bytes from one socket to another."""

    def __init__(self, number):
        super().__init__(number)
        self.cuts = []
        self.places = {0}

    def __repr__(self):
        return f"{self.written} bytes without {self.cuts}, received to {sorted(self.places)[:5]}"

    def begin(self, size):
        """The next bytes to be sent, and where they begin."""
        begin = self.written
        data = self.next(size)
        self.written += size
        return begin, data

    def cut(self, begin, size, least=0, most=None):
        """Of the bytes that were to be sent from `begin` on, only some have gone: from `least` to `most` many."""
        most = size if most is None else most
        if size > 0:
            self.cuts.append(Cut(begin + least, begin + most, begin + size))
            self.cuts.sort()

    def may_lose(self, size):
        """A receive of up to `size` bytes was cancelled after it had received."""
        self.places = {place + lost for place in self.places for lost in range(min(size, self.written - place) + 1)}

    def accept(self, data):
        """Take what has arrived. What is wrong with it, or nothing."""
        if not data:
            return ""
        places = {end for place in self.places for end in self._ends(place, data)}
        if not places:
            return f"{len(data)} bytes have arrived that do not follow {sorted(self.places)[:5]} of {self.written}"
        self.places = places
        self.received += len(data)
        return ""

    def is_complete(self):
        """Whether all may have arrived that was sent."""
        return any(self._may_be_the_end(place) for place in self.places)

    def _may_be_the_end(self, place):
        for cut in self.cuts:
            if cut.least <= place <= cut.most:
                place = cut.end
        return place == self.written

    def _ends(self, place, data):
        """The places behind the data, which begins at a place."""
        cut = next((cut for cut in self.cuts if cut.end > place), None)
        limit = self.written if cut is None else cut.most
        length = self._common(place, data, max(0, limit - place))
        if length == len(data):
            yield place + length
        if cut is None:
            return
        first, last = max(place, cut.least) - place, min(place + length, cut.most) - place
        for target, prefix in self._targets(cut):
            rest = first
            while (rest := data.find(prefix, rest, last + len(prefix))) >= 0:
                yield from self._ends(target, data[rest:])
                rest += 1
            for rest in range(max(first, len(data) - len(prefix) + 1), min(last + 1, len(data))):
                if prefix.startswith(data[rest:]):
                    yield from self._ends(target, data[rest:])

    def _targets(self, cut):
        """Where the stream may go on after a cut, and how; of the stretches behind it, some may be empty."""
        target = cut.end
        for after in self.cuts[self.cuts.index(cut) + 1 :]:
            if after.most > target:
                yield target, self.part(target, min(PREFIX, max(1, after.least - target)))
            if after.least > target:
                return
            target = after.end
        if target < self.written:
            yield target, self.part(target, min(PREFIX, self.written - target))

    def _common(self, place, data, most):
        """How many bytes of the data are those of the stream from a place on, `most` at most."""
        least, most = 0, min(most, len(data))
        expected = self.part(place, most)
        if data[:most] == expected:
            return most
        while most - least > 1:
            middle = (least + most) // 2
            if data[:middle] == expected[:middle]:
                least = middle
            else:
                most = middle
        return least


class Datagrams:
    """Datagrams from one socket to another."""

    def __init__(self, number, *, holds=None):
        self._stream = Stream(number)
        self._sent = []
        self._uncertain = set()
        self._holds = holds
        """What the receiver's buffer surely holds, in bytes of the kernel's memory, where it drops what is beyond."""
        self.places = {0}

    def __repr__(self):
        return f"{len(self._sent)} datagrams, perhaps without {self._uncertain}, received to {sorted(self.places)[:5]}"

    def begin(self, size):
        """The next datagram to be sent, and its number."""
        data = self._stream.next(size)
        self._stream.written += size
        self._sent.append(data)
        number = len(self._sent) - 1
        if self._holds is not None and sum(2 * len(each) + 2048 for each in self.on_their_way()) > self._holds:
            self._uncertain.add(number)
        return number, data

    def may_be_lost(self, number):
        self._uncertain.add(number)

    def may_lose(self):
        """A receive was cancelled after it had received."""
        self.places |= {min(place + 1, len(self._sent)) for start in self.places for place in self._from(start)}

    def accept(self, data, most=None):
        """Take a datagram that has arrived, cut to `most` bytes. What is wrong with it, or nothing."""
        places = {place + 1 for start in self.places for place in self._from(start) if self._is(place, data, most)}
        if not places:
            return f"a datagram of {len(data)} bytes has arrived that does not follow {sorted(self.places)[:5]}"
        self.places = places
        return ""

    def count(self):
        """Those that were sent so far."""
        return len(self._sent)

    def is_complete(self):
        return any(len(self._sent) in self._from(place) for place in self.places)

    def on_their_way(self):
        """Those that have not arrived yet."""
        return self._sent[min(self.places) :]

    def _is(self, place, data, most):
        return place < len(self._sent) and self._sent[place][:most] == data

    def _from(self, place):
        """The place, and those behind it that come next if what may be lost is lost."""
        places = [place]
        while place in self._uncertain:
            place += 1
            places.append(place)
        return places
