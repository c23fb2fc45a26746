"""Second derivatives of a risk, as products with vectors."""

from sgdscope.hessian.hessian import Hessian

__all__ = ["Hessian"]
