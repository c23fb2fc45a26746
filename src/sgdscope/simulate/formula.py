"""Formula: SymPy expressions as lines of scalar code for a kernel.

Every constant carries the precision of the state, as Python's own numbers would widen single precision to double.
Polynomials are brought into Horner's form where that is shorter, and parts that several expressions share are computed
once. Powers are products. A function that a kernel has no code for is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sympy

Precision = Literal["float32", "float64"]

MAX_OPERATIONS = 20_000
"""Longest step that is compiled, in operations."""

_CALLS = {
    sympy.exp: "exp", sympy.log: "log", sympy.sin: "sin", sympy.cos: "cos", sympy.tan: "tan", sympy.asin: "asin",
    sympy.acos: "acos", sympy.atan: "atan", sympy.sinh: "sinh", sympy.cosh: "cosh", sympy.tanh: "tanh",
}  # fmt: skip


OWN = ("exp", "log", "sin", "cos", "tanh")
"""Functions that `simulate.functions` has in single precision, with 32 after the name."""


@dataclass
class Writer:
    """Writes lines of one kernel, and gathers the constants they use.

    Attributes:
        precision: of the state.
        constants: value by name, to be defined before the kernel.
    """

    precision: Precision
    constants: dict[str, str] = field(default_factory=dict)

    def lines(self, assignments: Iterable[tuple[Any, Any]]) -> list[str]:
        """One line ``name = …`` for each (symbol, expression), in order; later ones may use earlier symbols.

        A symbol may be assigned its own new value. Raises ValueError for what cannot be written.
        """
        found = []
        for symbol, expression in assignments:
            found.append(f"{self.text(symbol)} = {self.text(expression)}")
        return found

    def text(self, expression: Any) -> str:
        """An expression as code."""
        if sympy.count_ops(expression) > MAX_OPERATIONS:
            raise ValueError(f"expected formulas of at most {MAX_OPERATIONS} operations, got a longer one")
        return self._text(sympy.sympify(expression))

    def constant(self, value: float) -> str:
        """The name of a constant."""
        text = f"np.{self.precision}({value!r})" if value == value else f"np.{self.precision}(np.nan)"
        for name, known in self.constants.items():
            if known == text:
                return name
        name = f"C{len(self.constants)}"
        self.constants[name] = text
        return name

    def _text(self, e: Any) -> str:
        if e.is_Symbol:
            return str(e.name) if e.name.startswith("_") else f"{e.name}_"  # apart from the names of the kernel
        if e.is_number:
            return self.constant(_number(e))
        if e.is_Add:
            return "(" + " + ".join(self._text(term) for term in e.args).replace("+ -", "- ") + ")"
        if e.is_Mul:
            return self._product(e)
        if e.is_Pow:
            return self._power(*e.as_base_exp())
        if e.func in _CALLS:
            return self._call(_CALLS[e.func], e.args[0])
        if isinstance(e, sympy.Abs):
            return f"abs({self._text(e.args[0])})"
        if isinstance(e, sympy.sign):
            part = self._text(e.args[0])
            zero, one = self.constant(0.0), self.constant(1.0)
            return f"(({one} if {part} > {zero} else {zero}) - ({one} if {part} < {zero} else {zero}))"
        if isinstance(e, sympy.Min | sympy.Max):
            word = "min" if isinstance(e, sympy.Min) else "max"
            text = self._text(e.args[0])
            for arg in e.args[1:]:
                text = f"{word}({text}, {self._text(arg)})"
            return text
        raise ValueError(f"expected formulas in the functions that kernels know, found {e.func.__name__} in {e}")

    def _call(self, name: str, argument: Any) -> str:
        own = self.precision == "float32" and name in OWN
        return f"{name}32({self._text(argument)})" if own else f"math.{name}({self._text(argument)})"

    def _product(self, e: Any) -> str:
        coefficient, rest = e.as_coeff_Mul()
        if coefficient == -1:
            return f"-({self._text(rest)})"
        above, below = [], []
        for factor in sympy.Mul.make_args(rest):
            base, power = factor.as_base_exp()
            if power.is_number and power.is_negative and not factor.is_number and not isinstance(factor, sympy.exp):
                below.append(base**-power)
            else:
                above.append(factor)
        parts = ([self.constant(_number(coefficient))] if coefficient != 1 else []) + [self._text(f) for f in above]
        text = "*".join(parts) if parts else self.constant(1.0)
        if below:
            text = f"{text}/({'*'.join(self._text(factor) for factor in below)})"
        return f"({text})"

    def _power(self, base: Any, power: Any) -> str:
        if power.is_number and power.is_negative:
            return f"({self.constant(1.0)}/({self._text(base**-power)}))"
        if power.is_Integer:
            return self._repeated(self._text(base), int(power))
        if power.is_Rational and power.q == 2:
            root = f"math.sqrt({self._text(base)})"
            whole = int(power.p) // 2
            return f"({root}*{self._repeated(self._text(base), whole)})" if whole else root
        if base == sympy.E:
            return self._call("exp", power)
        return f"(({self._text(base)})**({self._text(power)}))"

    def _repeated(self, base: str, power: int) -> str:
        """A power as products of squares: x·x, (x·x)·(x·x), …; equal parts are computed once by the compiler."""
        if power == 1:
            return base
        half = self._repeated(base, power // 2)
        return f"({half}*{half}*{base})" if power % 2 else f"({half}*{half})"


def shared(expressions: Sequence[Any], prefix: str) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Assignments of the parts that expressions share, named prefix0, prefix1, …, and the expressions in terms of them.

    Each is brought into Horner's form first if that takes fewer operations.
    """
    names = sympy.numbered_symbols(prefix, real=True)
    parts, rest = sympy.cse([_short(e) for e in expressions], symbols=names, order="none")
    return list(parts), list(rest)


def _short(expression: Any) -> Any:
    variables = sorted(expression.free_symbols, key=lambda s: str(s.name))
    if not variables or not expression.is_polynomial(*variables):
        return expression
    nested = sympy.horner(expression)
    return min(nested, expression, key=sympy.count_ops)


def _number(e: Any) -> float:
    value = complex(e)
    if value.imag or value.real - value.real:
        raise ValueError(f"expected finite real constants, found {e}")
    return value.real
