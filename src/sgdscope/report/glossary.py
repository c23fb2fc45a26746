"""Glossary: what each recorded quantity is, where it is defined, and what it can and cannot say."""

from __future__ import annotations

from dataclasses import dataclass

EOSS = "Andreyev & Beneventano 2412.20553"


@dataclass(frozen=True)
class Entry:
    """One quantity.

    Attributes:
        label: its name in words.
        definition: a sentence, formula included.
        source: paper and place, or who derived it.
        scope: what it says and what it does not.
        curvature: whether its unit is loss / parameter², so that it can be shown in edge units.
    """

    label: str
    definition: str
    source: str = ""
    scope: str = ""
    curvature: bool = False


GLOSSARY: dict[str, Entry] = {
    "batch_sharpness": Entry(
        "batch sharpness",
        "E[g_Bᵀ H_B g_B / ‖g_B‖²]: the curvature of the batch's own loss along the batch's own gradient, averaged "
        "over fresh batches B at fixed parameters.",
        f"{EOSS}, Definition 3",
        "The gauge for plain SGD: at a constant learning rate it settles near 2 / lr for every batch size. "
        "Above it instability is certain on the local quadratic; below it nothing is certified.",
        curvature=True,
    ),
    "ratio_of_expectations": Entry(
        "batch sharpness, ratio of expectations",
        "E[g_Bᵀ H_B g_B] / E‖g_B‖², on the same batches as batch sharpness.",
        f"follows from the second-order change of the batch loss; an option in the code of {EOSS}",
        "Equals 2 / lr exactly when the batch's own loss does not change in mean over its own step (to second "
        "order). Usually 4 to 10 % above batch sharpness.",
        curvature=True,
    ),
    "edge_ratio": Entry(
        "streamed edge ratio",
        "E[sᵀ H_B s] / E[−g_Bᵀ s] with s the step really taken, from the very batches trained on; the edge is 2, "
        "shown here divided by 2.",
        "derived from the second-order change of the batch loss; equal to lr · ratio of expectations for plain SGD",
        "Defined for any optimizer. Only for plain SGD is it batch sharpness over its threshold; for others no "
        "theory makes its edge a limit of stability.",
    ),
    "lambda_max": Entry(
        "λ_max of the full loss",
        "The largest eigenvalue of the Hessian of the loss on all probe data (further ones after it).",
        "Cohen et al. 2103.00065",
        "The gauge for full-batch descent. For SGD it usually settles below the threshold, lower for smaller "
        "batches, and says nothing about head-room.",
        curvature=True,
    ),
    "interaction_aware_sharpness": Entry(
        "interaction-aware sharpness",
        "E[g_Bᵀ H g_B] / E‖g_B‖²: batch gradients, Hessian of the full loss.",
        "Lee & Jang 2023",
        "Never above λ_max. With full-batch gradients it equals batch sharpness.",
        curvature=True,
    ),
    "gradient_noise_interaction": Entry(
        "gradient-noise interaction",
        "E[g_Bᵀ H g_B] / ‖g‖²: batch gradients and Hessian of the full loss, over the full gradient.",
        f"code of {EOSS}",
        "Equals 2 / lr when the full loss is stationary in mean: it tells that the loss oscillates, which noise alone "
        "can do. It is no edge.",
        curvature=True,
    ),
    "loss": Entry(
        "training loss",
        "Mean of the loss of the batches trained on since the last row.",
        scope="An average along the path: during fast change it lags behind the loss at its step.",
    ),
    "full_loss": Entry("loss on all probe data", "The loss at fixed parameters on all data of the risk."),
    "learning_rate": Entry("learning rate", "The learning rate in force from this step on."),
    "predicted_edge": Entry(
        "predicted position after a change",
        "Batch sharpness at the new batch size and the present parameters, over the new learning rate's threshold.",
        f"{EOSS}; the warning level 1.2 was measured on small networks",
        "Says where the run would stand at once after the change, not where it would settle.",
    ),
    "edge_map": Entry(
        "edge learning rate by batch size",
        "The threshold over batch sharpness at each batch size, at the present parameters: 2 / batch sharpness for "
        "plain SGD. A learning rate above it puts the run above its edge at once.",
        f"{EOSS} (the threshold); the curve through the batch sizes is derived here",
        "Says where the run would stand at once after a change, not where it would settle.",
    ),
    "monitor_share": Entry(
        "share of time spent watching", "Wall time spent measuring over wall time of the run so far, from 0 to 1."
    ),
}


def entry(name: str) -> Entry:
    """The entry of a quantity; for an unknown one its name in words and nothing claimed."""
    return GLOSSARY.get(name) or Entry(name.replace("_", " "), "")
