"""Study of the diffusion theory of escape (Xie, Sato & Sugiyama 2002.03495)."""

from sgdscope.studies.escape.recipe import Escape

__all__ = ["Escape"]
