"""Study of the law of balance: what minibatch noise does to the layers of a network, and where SGD settles."""

from sgdscope.studies.balance.recipe import Balance

__all__ = ["Balance"]
