"""Expressions typed by people, read without ever running them.

SymPy's own reader evaluates Python code, so a formula from a stranger must not reach it. This one knows numbers, names,
``+ - * / **`` (``^`` is the same as ``**``), brackets and a short list of functions, and builds the expression from
these alone. What could take long (towers of powers, huge numbers, deep brackets) is bounded before it is computed.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from keyword import iskeyword
from typing import Any

import sympy

MAX_LENGTH = 2000
"""Longest text read, in characters."""
MAX_DEPTH = 40
"""Deepest nesting of brackets, signs and powers."""
MAX_LAYERS = 4
"""Most functions of functions of functions in one another, powers with a variable exponent among them."""
MAX_DEGREE = 100
"""Highest degree: the largest sum of exponents along one product."""
MAX_TERMS = 2000
"""Most terms a part may have when it is multiplied out."""
MAX_ROOT = 100
"""Largest denominator of an exact exponent; finer ones are rounded to floating point."""
MAX_EXACT = 10_000
"""Largest numerator and denominator kept exact; other numbers are floating point, which SymPy handles fast."""
MAX_NUMBER = 1e100
"""Largest constant or coefficient; the smallest is its inverse."""

CONSTANTS = {"pi": sympy.pi, "π": sympy.pi, "e": sympy.E}
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[float], float]]] = {
    "sin": (sympy.sin, math.sin),
    "cos": (sympy.cos, math.cos),
    "tan": (sympy.tan, math.tan),
    "asin": (sympy.asin, math.asin),
    "acos": (sympy.acos, math.acos),
    "atan": (sympy.atan, math.atan),
    "sinh": (sympy.sinh, math.sinh),
    "cosh": (sympy.cosh, math.cosh),
    "tanh": (sympy.tanh, math.tanh),
    "exp": (sympy.exp, math.exp),
    "log": (sympy.log, math.log),
    "ln": (sympy.log, math.log),
    "sqrt": (sympy.sqrt, math.sqrt),
    "abs": (sympy.Abs, abs),
}

_WORD = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[^\W\d]\w*)|(?P<sign>\*\*|[-+*/^()])|(?P<other>.)",
    re.DOTALL,
)
_LOOKALIKES = str.maketrans({"−": "-", "·": "*", "×": "*", "\n": " ", "\t": " ", "\r": " "})
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True))


def parse(text: str, variables: Sequence[str] = ("x", "y"), parameters: Mapping[str, float] | None = None) -> Any:
    """The SymPy expression that a text means, in real symbols, with simple decimal numbers exact.

    Args:
        text: for example ``"x**4/4 - x^2/2"``. Powers bind tighter than a sign in front and group to the right.
        variables: names that stay symbols, ``sympy.Symbol(name, real=True)``.
        parameters: names that stand for numbers, which are put in.

    Cost: milliseconds, whatever the text. Raises ValueError, in one sentence that names what was found, where (counted
    in characters from 1) and what would be accepted: for anything but the grammar above, for constants that are not
    finite real numbers, and beyond `MAX_LENGTH`, `MAX_DEPTH`, `MAX_DEGREE` and `MAX_NUMBER`.
    """
    if not isinstance(text, str):
        raise ValueError(f"expected an expression as text, got {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"expected an expression of at most {MAX_LENGTH} characters, got {len(text)}")
    if not text.strip():
        raise ValueError("expected an expression, got an empty text")
    meanings = _meanings(variables, parameters or {})
    return _Reader(_words(text, meanings), meanings).whole().expression


def symbols(variables: Sequence[str]) -> tuple[Any, ...]:
    """The real symbols `parse` uses for these names. Raises ValueError for names it would refuse."""
    return tuple(_meanings(variables, {})[name].expression for name in variables)


def number(value: float | str) -> Any:
    """A decimal number as SymPy takes it here: the fraction it is if that is a short one, else floating point."""
    return _rounded(sympy.Rational(Fraction(value if isinstance(value, str) else repr(float(value)))))


@dataclass(frozen=True)
class _Word:
    kind: str  # number, name, sign or end
    text: str
    place: int  # in characters, from 1


@dataclass(frozen=True)
class _Term:
    """A part of the expression, with what bounds the work on it."""

    expression: Any
    size: float | None = None  # of a constant
    degree: float = 0  # at most
    terms: int = 1  # at most, when multiplied out
    layers: int = 0  # functions in one another


def _meanings(variables: Sequence[str], parameters: Mapping[str, float]) -> dict[str, _Term]:
    """What each name stands for, functions aside."""
    if isinstance(variables, str):
        raise ValueError(f"expected a sequence of variable names, got a text: write ({variables!r},)")
    names = [*variables, *parameters]
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or iskeyword(name):
            raise ValueError(f"expected names of variables and parameters such as 'x' or 'theta_1', got {name!r}")
        if name in FUNCTIONS or name in CONSTANTS:
            raise ValueError(f"expected another name for a variable or parameter: {name!r} has a meaning already")
    if len(set(names)) < len(names):
        raise ValueError(f"expected each name once, got {', '.join(names)}")
    found = {name: _Term(sympy.Symbol(name, real=True), degree=1) for name in variables}
    for name, value in parameters.items():
        size = float(value)
        if not abs(size) <= MAX_NUMBER or 0 < abs(size) < 1 / MAX_NUMBER:
            raise ValueError(f"expected parameter {name} to be a number up to {MAX_NUMBER:g} in size, got {value}")
        found[name] = _Term(number(size), size)
    return found | {name: _Term(value, float(value)) for name, value in CONSTANTS.items()}


def _words(text: str, meanings: Mapping[str, _Term]) -> list[_Word]:
    """The text in words, all of them known, and an end."""
    found = []
    for match in _WORD.finditer(text.translate(_LOOKALIKES)):
        kind, word, place = str(match.lastgroup), match[0], match.start() + 1
        if word == " ":
            continue
        for raised in _SUPERSCRIPTS.keys() & set(word):
            raise ValueError(f"found {raised!r} at character {place}: write powers as in x**{_SUPERSCRIPTS[raised]}")
        if kind == "other":
            raise ValueError(
                f"found {word!r} at character {place}: expected only numbers, names, brackets ( ) and + - * / **"
            )
        if kind == "name" and word not in meanings and word not in FUNCTIONS:
            raise ValueError(f"found the unknown name {word[:30]!r} at character {place}: {_known(word, meanings)}")
        found.append(_Word(kind, "**" if word == "^" else word, place))
    return [*found, _Word("end", "the end", len(text) + 1)]


def _known(word: str, meanings: Iterable[str]) -> str:
    """What could have been meant by an unknown name."""
    own = [name for name in meanings if name not in CONSTANTS]
    folded = {name.casefold(): name for name in [*FUNCTIONS, "pi", *own]}
    near = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    return f"{hint}known are {', '.join(own)}, the constants pi and e, and the functions {', '.join(FUNCTIONS)}"


class _Reader:
    """A descent through the words: sums of products of signed powers."""

    def __init__(self, words: list[_Word], meanings: Mapping[str, _Term]) -> None:
        self._words = words
        self._meanings = meanings
        self._at = 0
        self._depth = 0

    def whole(self) -> _Term:
        """The term that all words form."""
        term = self._sum()
        if self._word.kind != "end":
            raise self._stray()
        return term

    @property
    def _word(self) -> _Word:
        return self._words[self._at]

    def _take(self, *signs: str) -> _Word | None:
        """The next word, and one step on, if it is one of these signs."""
        word = self._word
        if word.kind != "sign" or word.text not in signs:
            return None
        self._at += 1
        return word

    def _sum(self) -> _Term:
        terms = [self._product()]
        while sign := self._take("+", "-"):
            term = self._product()
            terms.append(term if sign.text == "+" else _negative(term))
        if len(terms) == 1:
            return terms[0]
        size = _size(math.fsum, [term.size for term in terms], self._word)
        bound = _bounded(terms, max(term.degree for term in terms), sum(term.terms for term in terms), self._word)
        return _checked(sympy.Add(*(term.expression for term in terms)), size, bound, self._word)

    def _product(self) -> _Term:
        found = self._signed()
        while sign := self._take("*", "/"):
            factor = self._signed()
            if sign.text == "/" and factor.size == 0:
                raise ValueError(f"found a division by zero at character {sign.place}")
            rule: Callable[[Any, Any], Any] = operator.mul if sign.text == "*" else operator.truediv
            size = _size(lambda sizes: rule(*sizes), [found.size, factor.size], sign)  # noqa: B023
            bound = _bounded([found, factor], found.degree + factor.degree, found.terms * factor.terms, sign)
            found = _checked(rule(found.expression, factor.expression), size, bound, sign)
        return found

    def _signed(self) -> _Term:
        sign = self._take("+", "-")
        if not sign:
            return self._raised()
        self._deeper(sign)
        term = self._signed()
        self._depth -= 1
        return term if sign.text == "+" else _negative(term)

    def _raised(self) -> _Term:
        base = self._atom()
        sign = self._take("**")
        if not sign:
            return base
        self._deeper(sign)
        exponent = self._signed()
        self._depth -= 1
        return _power(base, exponent, sign)

    def _atom(self) -> _Term:
        word = self._word
        if word.kind == "end" or (word.kind == "sign" and word.text != "("):
            found = word.text if word.kind == "end" else f"{word.text!r} at character {word.place}"
            raise ValueError(f"found {found} where a number, a name or a bracket was expected")
        self._at += 1
        if word.kind == "number":
            return _number(word)
        if word.text in self._meanings:
            return self._meanings[word.text]
        opening = word if word.kind == "sign" else self._take("(")
        if not opening:
            raise ValueError(f"found {word.text!r} at character {word.place} without brackets: write {word.text}(x)")
        self._deeper(opening)
        inside = self._sum()
        self._depth -= 1
        if not self._take(")"):
            raise self._stray(opening)
        return inside if word.kind == "sign" else _function(inside, word)

    def _deeper(self, word: _Word) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"found more than {MAX_DEPTH} brackets and signs in each other at character {word.place}")

    def _stray(self, opening: _Word | None = None) -> ValueError:
        """Why the next word cannot follow a finished term."""
        word, before = self._word, self._words[self._at - 1]
        if word.kind == "end" and opening:
            return ValueError(f"found '(' at character {opening.place} without its ')'")
        if word.text == ")":
            return ValueError(f"found ')' at character {word.place} without its '('")
        return ValueError(
            f"found {word.text[:30]!r} at character {word.place} right after {before.text[:30]!r}: "
            "put a sign between them, * for a product"
        )


def _number(word: _Word) -> _Term:
    size = float(word.text)
    written = word.text.lower().partition("e")[0].strip("0.")
    if size > MAX_NUMBER or (written and size < 1 / MAX_NUMBER):
        raise ValueError(
            f"found the number {word.text[:20]} at character {word.place}: "
            f"expected 0 or {1 / MAX_NUMBER:g} to {MAX_NUMBER:g} in size"
        )
    return _Term(number(word.text), size)


def _rounded(constant: Any) -> Any:
    long = constant.is_Rational and max(abs(constant.p), constant.q) > MAX_EXACT
    return sympy.Float(constant) if long else constant


def _negative(term: _Term) -> _Term:
    return replace(term, expression=-term.expression, size=None if term.size is None else -term.size)


def _power(base: _Term, exponent: _Term, sign: _Word) -> _Term:
    """Base to the exponent, refused where it grows too large before SymPy multiplies anything out."""
    size = _size(lambda pair: math.pow(*pair), [base.size, exponent.size], sign)
    if exponent.size is None:
        if base.size is not None and base.size <= 0:
            raise ValueError(f"found a power of {base.size:g} at character {sign.place}: expected a base above zero")
        bound = _bounded([base, exponent], max(base.degree, exponent.degree), 1, sign, layer=1)
        # SymPy would compute 9**1e30 to split 9**(1e30 + x)
        return _checked(sympy.exp(exponent.expression * sympy.log(base.expression)), size, bound, sign)
    repeats = abs(exponent.size)
    bound = _bounded([base], max(1, base.degree) * repeats, 1, sign)  # before terms are counted and powers taken
    terms = math.comb(math.ceil(repeats) + base.terms - 1, base.terms - 1)
    bound = _bounded([base], base.degree * repeats, terms, sign)
    power = exponent.expression
    if power.is_Rational and power.q > MAX_ROOT:
        power = sympy.Float(power)
    return _checked(base.expression**power, size, bound, sign)


def _function(inside: _Term, word: _Word) -> _Term:
    symbolic, numeric = FUNCTIONS[word.text]
    size = _size(lambda values: numeric(values[0]), [inside.size], word)
    bound = _bounded([inside], inside.degree, 1, word, layer=int(inside.size is None))
    return _checked(symbolic(inside.expression), size, bound, word)


def _size(rule: Callable[[list[float]], float], sizes: list[float | None], word: _Word) -> float | None:
    """The size of a constant made of constants, None if one varies. Raises if it is no real number in bounds."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    try:
        size = rule(known)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"found a constant that is not a real number at character {word.place}") from None
    except OverflowError:
        size = math.inf
    if not abs(size) <= MAX_NUMBER:
        raise ValueError(f"found a constant beyond {MAX_NUMBER:g} at character {word.place}")
    return size


def _bounded(parts: list[_Term], degree: float, terms: int, word: _Word, layer: int = 0) -> dict[str, Any]:
    """The bounds of a term made of parts. Raises if they are out of what is read."""
    if degree > MAX_DEGREE:
        raise ValueError(f"found degree {degree:g} at character {word.place}: expected at most {MAX_DEGREE}")
    if terms > MAX_TERMS:
        raise ValueError(f"found more than {MAX_TERMS} terms, multiplied out, at character {word.place}")
    layers = max(part.layers for part in parts) + layer
    if layers > MAX_LAYERS:
        raise ValueError(f"found more than {MAX_LAYERS} functions in one another at character {word.place}")
    return {"degree": degree, "terms": terms, "layers": layers}


def _checked(expression: Any, size: float | None, bound: dict[str, Any], word: _Word) -> _Term:
    """A part just built, if it is a real expression in bounds."""
    if expression.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I):
        raise ValueError(f"found a part that is not a finite real number at character {word.place}")
    coefficient, rest = expression.as_coeff_Mul()
    if coefficient != 0 and not 1 / MAX_NUMBER <= abs(coefficient) <= MAX_NUMBER:
        raise ValueError(f"found a factor beyond {MAX_NUMBER:g} or its inverse at character {word.place}")
    expression = _rounded(coefficient) * rest
    for factor in sympy.Mul.make_args(rest):  # exp(1e9*log(x)) becomes a power, and products of roots become fine ones
        exponent = factor.as_base_exp()[1]
        if exponent.is_number and not (abs(exponent) <= MAX_DEGREE and getattr(exponent, "q", 1) <= MAX_ROOT):
            raise ValueError(f"found the exponent {exponent} at character {word.place}: expected a simpler one")
    if size is None and not expression.free_symbols:
        size = float(expression)  # x - x and x/x are constant too
    elif expression.is_zero:
        size = 0.0
    return _Term(expression, size, **bound)
