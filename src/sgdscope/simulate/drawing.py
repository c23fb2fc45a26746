"""Drawing: the part of a kernel that fills rows with random numbers, two for each draw of two words."""

from __future__ import annotations

from sgdscope.simulate.buffers import Buffers, indented, lanes


def draws(b: Buffers) -> list[str]:
    """Lines that draw the numbers of one round, those of draw number `draw`, round `r` of its step."""
    if b.samples:
        return _sample(b)
    count = len(b.update.noise)
    found = _mask() if b.update.draw == "signs" else []
    if not b.fast:
        found += _counter("draw")
    for stream in range(count // 2):
        rows = (b.noise_row + 2 * stream, b.noise_row + 2 * stream + 1)
        found += lanes(_pair(b, stream, *rows))
    if b.odd:
        row, stream = b.spare_row - 1, count // 2
        first = [] if b.fast else _counter("(draw >> 1)")
        found += [
            "if draw % 2 == 0:",
            *indented([*first, *lanes(_pair(b, stream, row, b.spare_row))]),
            "else:",
            *indented(lanes([f"f[{row} * W + i] = f[{b.spare_row} * W + i]"])),
        ]
    return found


def _sample(b: Buffers) -> list[str]:
    """Draws the row of a sample, by Floyd's method where rows of one step must differ. A word gives one row."""
    row, spare = f"k[{b.word_rows} * W + i]", f"k[{b.word_rows + 1} * W + i]"
    columns = len(b.update.noise)
    last = f"len(table) // {columns}" + (" - rounds + r + 1" if b.update.distinct else "")
    found = [
        "if draw % 2 == 0:",
        *indented([
            *([] if b.fast else _counter("(draw >> 1)")),
            *lanes([*_words(b, 0), f"{row} = w0", f"{spare} = w1"]),
        ]),
        "else:",
        *indented(lanes([f"{row} = {spare}"])),
        f"last = {last}",
        *lanes([f"j[r * W + i] = int32((np.uint64({row}) * np.uint64(last)) >> np.uint64(32))"]),
    ]  # fmt: skip
    if b.update.distinct:
        again = "int32(last - 1) if j[q * W + i] == j[r * W + i] else j[r * W + i]"
        found += ["for q in range(r):", *indented(lanes([f"j[r * W + i] = {again}"]))]
    place = f"uint32(uint32(j[r * W + i]) * uint32({columns}))"  # a loop of its own: gathers keep others from vectors
    rows = range(b.noise_row, b.noise_row + columns)
    return found + lanes([f"f[{row} * W + i] = table[{place} + uint32({c})]" for c, row in enumerate(rows)])


def _counter(number: str) -> list[str]:
    return [f"low = uint32({number} & 0xFFFFFFFF)", f"high = uint32(({number} >> 32) << 16)"]


def _mask() -> list[str]:
    """As many bits as signs are left to sum up in this round, and in the one that shares an odd draw with it."""
    return [
        "mask = uint32((1 << min(24, signs - 24 * r)) - 1)",
        "next_mask = uint32((1 << min(24, signs - 24 * ((r + 1) % rounds))) - 1)",
    ]


def _pair(b: Buffers, stream: int, row: int, other: int) -> list[str]:
    """Draws two numbers into two rows."""
    found = _words(b, stream)
    if b.update.draw == "signs":
        of_other = "next_mask" if other == b.spare_row and b.odd else "mask"
        found += [f"n0, n1 = sum_of_signs(w0, mask), sum_of_signs(w1, {of_other})"]
    else:
        found += [f"n0, n1 = {b.update.draw}s(w0, w1)"]
    return [*found, f"f[{row} * W + i] = n0", f"f[{other} * W + i] = n1"]


def _words(b: Buffers, stream: int) -> list[str]:
    """Draws two words."""
    if b.fast:
        return [
            "w0, s0, s1, s2, s3 = xoshiro(k[i], k[W + i], k[2 * W + i], k[3 * W + i])",
            "w1, s0, s1, s2, s3 = xoshiro(s0, s1, s2, s3)",
            *(f"k[{j} * W + i] = s{j}" for j in range(4)),
        ]
    return [f"w0, w1 = threefry(k[i], k[W + i], low, uint32(high | uint32({stream})))"]
