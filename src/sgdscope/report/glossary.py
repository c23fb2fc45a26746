"""Glossary: what each recorded quantity is, where it is defined, and what it can and cannot say."""

from __future__ import annotations

from dataclasses import dataclass

EOSS = "Andreyev & Beneventano 2412.20553"
NOISE = "McCandlish et al. 1812.06162"
COVARIANCE = "Xie, Sato & Sugiyama 2002.03495"
STEPS = "Sandler et al. 2301.02312"
BALANCE = "Ziyin, Li & Ueda 2308.06671"
EQUILIBRIUM = "Ziyin, Wang, Li & Wu 2402.07193"
DENSITY = "Ubaru, Chen & Saad 2017; for networks Ghorbani et al. 1901.10159"


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
    "gradient_signal": Entry(
        "signal in a batch's gradient", "‖g‖² / E‖g_B‖²: which share of a batch's squared gradient is the full one's."
    ),
    "critical_batch_size": Entry(
        "critical batch size",
        "tr(HΣ) / gᵀHg, in samples: at this batch size noise costs a step of the best length half of its progress.",
        f"{NOISE}, there B_noise",
        "The noise scale weighed by curvature. It takes the loss to be quadratic along a step.",
    ),
    "gradient_noise": Entry(
        "gradient noise, tr Σ",
        "tr Σ = E‖g_i‖² − ‖g‖²: the total variance of single samples' gradients g_i.",
        f"{NOISE}, section 2",
        "A batch of b drawn with replacement has the gradient variance tr Σ / b.",
    ),
    "squared_gradient_norm": Entry(
        "squared norm of the full gradient", "‖g‖² over all data, or unbiased from pairs of samples.", NOISE
    ),
    "simple_noise_scale": Entry(
        "noise scale",
        "tr Σ / ‖g‖², in samples: the batch size at which noise and signal are alike in a step.",
        f"{NOISE}, there B_simple",
        "A common guide to the largest useful batch. It takes the curvature to be the same in all directions.",
    ),
    "effective_rank": Entry(
        "effective rank of the noise",
        "(tr Σ)² / tr Σ²: over how many directions the noise is spread.",
        "tr Σ² as in Chen & Qin 2010",
    ),
    "signal_to_noise": Entry("signal to noise by layer", "‖g_l‖² / tr Σ_l for each layer l.", NOISE),
    "spectrum": Entry(
        "largest eigenvalues of the Hessian",
        "Eigenvalues of ∇²L, the largest first, on the samples named.",
        "Davidson 1975 (the method)",
        "On part of the data the largest come out larger than on all of them.",
        curvature=True,
    ),
    "participation": Entry(
        "participation of the top eigenvectors",
        "1 / Σ_l p_l² with p_l the share of an eigenvector's squared length in parameter l: over how many parameter "
        "tensors it is spread.",
    ),
    "log_determinant": Entry("log-determinant of the leading block", "Σ log λ_j over the positive of the largest."),
    "hessian_trace": Entry("trace of the Hessian", "tr ∇²L, from random vectors.", DENSITY),
    "frobenius_norm": Entry("Frobenius norm of the Hessian", "√(tr H²), from random vectors.", DENSITY),
    "negative_share": Entry(
        "share of negative eigenvalues",
        "Share of the Hessian's eigenvalues below zero by more than the resolution of the density.",
        DENSITY,
        "What lies closer to zero is counted as flat.",
    ),
    "smallest_eigenvalue": Entry(
        "smallest eigenvalue of the Hessian",
        "An upper bound of it; the residual is the resolution.",
        DENSITY,
        curvature=True,
    ),
    "noise_covariance": Entry(
        "noise along the top eigenvectors",
        "v_jᵀ Σ v_j: variance of single samples' gradients along each leading eigenvector v_j of the Hessian.",
        COVARIANCE,
        "Σ = H holds at the optimum of a well specified log-likelihood; elsewhere it is a question.",
    ),
    "noise_covariance.eigenvalues": Entry(
        "curvature along them", "v_jᵀ H v_j, the eigenvalues where all data were looked at.", COVARIANCE, curvature=True
    ),
    "noise_covariance.slope": Entry(
        "noise over curvature",
        "Σ_j Σ_jj λ_j / Σ_j λ_j²: slope of the elements of Σ on those of H through the origin; 1 where Σ = H.",
        COVARIANCE,
        "For ½ (f − y)² it is the mean squared residual: C = H / B needs unit residual variance.",
    ),
    "noise_covariance.cosine": Entry(
        "likeness of noise and curvature",
        "⟨Σ, H⟩ / ‖Σ‖ ‖H‖ within the top eigenvectors: 1 where one is a multiple of the other.",
        "derived here",
    ),
    "noise_covariance.correlation": Entry(
        "correlation of noise and curvature",
        "Of the variances with the eigenvalues.",
        COVARIANCE,
        "High correlation is no evidence for Σ = H.",
    ),
    "noise_covariance.trace_ratio": Entry(
        "mean noise over curvature", "Mean of Σ_jj / λ_j, tr(Σ H⁻¹) / k.", COVARIANCE
    ),
    "noise_covariance.exponent": Entry(
        "exponent of noise in curvature",
        "p in Σ_jj ∝ λ_j^p, by least squares in logarithms: 0 is constant noise, 1 noise proportional to the Hessian.",
        "derived here",
        "Its error holds the sampling of the noise and the scatter of the directions about the line.",
    ),
    "noise_covariance.alignment": Entry(
        "share of the noise along the top eigenvectors", "Σ_j Σ_jj / tr Σ.", "derived here"
    ),
    "noise_covariance.loss": Entry("loss of the samples of the noise covariance", "Mean loss of the samples drawn."),
    "batch_line": Entry(
        "best single step of a batch for itself",
        "The step α at which the loss of one batch is lowest along minus its own gradient, θ − α g_b; the same batch "
        "at every reading of a run.",
        f"{STEPS}, Sec. 3",
        "Of one batch: others differ. Where steps are those of SGD it is in learning rates.",
    ),
    "batch_line.loss_before": Entry("loss of that batch before the step", "L_b(θ).", STEPS),
    "batch_line.loss_reached": Entry(
        "loss of that batch at its best step", "L_b(θ − α g_b) at the best α, as measured there.", f"{STEPS}, Sec. 3"
    ),
    "batch_line.curvature": Entry(
        "curvature of that batch's loss along its gradient", "g_bᵀ H_b g_b / ‖g_b‖².", STEPS, curvature=True
    ),
    "batch_line.batch_r_squared": Entry(
        "R² of a parabola, that batch",
        "Share of the variance of its losses along the line that a parabola holds; 1 for a quadratic.",
        f"{STEPS}, Sec. 3",
    ),
    "batch_line.unseen_r_squared": Entry(
        "R² of a parabola, unseen batches", "The same for the mean loss of batches that had no part in the gradient."
    ),
    "batch_line.full_r_squared": Entry("R² of a parabola, all data", "The same for the loss of all data."),
    "batch_line.best_unseen_step": Entry(
        "best step along that gradient for unseen batches", "Where the parabola of their mean loss is lowest."
    ),
    "batch_line.best_full_step": Entry(
        "best step along that gradient for all data", "Where the parabola of the loss of all data is lowest."
    ),
    "full_loss_step": Entry(
        "best step along a batch's gradient for all data",
        "α_L / lr with α_L = E[∇L · g_b] / E[g_bᵀ H g_b], H of all data: where the loss of all data is lowest along a "
        "batch's gradient, in learning rates.",
        f"derived here for the per-batch quadratics of {STEPS}, Sec. 4",
        "½ in the mean over the path of a settled run of plain SGD, about ½ / (1 − momentum) with momentum; one point "
        "scatters around that. It is 1 / lr over the gradient-noise interaction.",
    ),
    "full_loss_step.squared_gradient": Entry(
        "squared gradient of all data", "‖∇L‖², the numerator of the best full-loss step."
    ),
    "full_loss_step.curvature": Entry(
        "curvature along batch gradients", "E[g_bᵀ H g_b], its denominator, with H of all data."
    ),
    "full_loss_step.departure": Entry(
        "departure from the quadratic",
        "By how much the loss of all data after steps of the learning rate differs in mean from the parabola, in parts "
        "of its curved term; 0 for a quadratic.",
    ),
    "balance": Entry(
        "noise imbalance",
        "(Tr Cov[∇_u ℓ] − Tr Cov[∇_w ℓ]) / their sum, for layers that can be rescaled unseen, u → λu, w → w/λ: between "
        "−1 and 1, 0 at noise balance, where gradient noise on the two sides is alike.",
        f"{BALANCE}, Theorem 3.1 and Eq. 3",
        "Noise of SGD raises ‖u‖² − ‖w‖² where it is positive and lowers it where it is negative, whatever the loss.",
    ),
    "balance.charge": Entry(
        "charge",
        "C = ‖u‖² − ‖w‖² of layers that can be rescaled unseen (u reads the activations between, w writes them, with "
        "biases); ‖u‖² of weights whose scale does not matter.",
        BALANCE,
        "Gradient flow conserves it: what moves it is the noise of minibatches, the length of steps, and weight decay.",
    ),
    "balance.squared_norm_u": Entry("squared norm of the reading side", "‖u‖²."),
    "balance.squared_norm_w": Entry("squared norm of the writing side", "‖w‖², biases included."),
    "balance.noise_u": Entry("noise of the reading side", "Tr Cov[∇_u ℓ] over single samples.", BALANCE),
    "balance.noise_w": Entry("noise of the writing side", "Tr Cov[∇_w ℓ] over single samples.", BALANCE),
    "balance.expected_change": Entry(
        "predicted change of the charge per step",
        "lr² ((Tr Cov[∇_u ℓ] − Tr Cov[∇_w ℓ]) / b + ‖∇_u L‖² − ‖∇_w L‖²) at batch size b, and what weight decay takes; "
        "a factor for finite data where batches hold no sample twice.",
        f"{BALANCE}, Theorem 3.1; exact at any learning rate by a derivation from its Eq. 26",
        "Plain SGD only.",
    ),
    "balance.ratio": Entry("ratio of norms", "‖u‖ / ‖w‖, reading over writing layer."),
    "balance.equilibrium_ratio": Entry(
        "ratio of norms at noise balance",
        "‖u‖ / ‖w‖ where gradient noise (and weight decay) moves the charge no longer, all units rescaled alike.",
        f"{BALANCE}, Eq. 3; {EQUILIBRIUM}",
        "It holds for the weights as they are: as training goes on, the balance moves with them.",
    ),
    "balance.relaxation_steps": Entry(
        "relaxation time of the balance",
        "Steps in which a small distance from noise balance falls to 1/e.",
        EQUILIBRIUM,
    ),
    "balance.unit_distance": Entry(
        "distance of single units from noise balance",
        "Median over units of |ln(ratio / ratio at their own noise balance)|.",
        EQUILIBRIUM,
        "A pair can be balanced as a whole though its units are not.",
    ),
    "charges": Entry(
        "charges",
        "C = ‖u‖² − ‖w‖² of layers that can be rescaled unseen, along the run.",
        BALANCE,
        "Conserved by gradient flow.",
    ),
    "charges.change": Entry(
        "change of the charge per step, by the gradients",
        "Mean of lr² (‖ĝ_u‖² − ‖ĝ_w‖²) over the gradients of training, and what weight decay takes.",
        f"derived from {BALANCE}, Eq. 26",
        "Exact for every step of plain SGD.",
    ),
    "charges.measured_change": Entry("change of the charge per step, measured", "(C now − C then) / steps."),
    "charges.identity_residual": Entry(
        "residual of the identity of charges",
        "Largest difference between the change that the gradients add up to and the measured one, over all terms.",
        f"derived from {BALANCE}, Eq. 26",
        "Rounding of the weights, as long as training is plain SGD.",
    ),
    "charges.identity_rounding": Entry(
        "rounding in the identity of charges", "How much of that residual rounding of the weights allows."
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
    "batch_sharpness_curve": Entry(
        "batch sharpness by batch size",
        "Batch sharpness at each batch size b of the what-if map, along (a₀ + a₁ / b + a₂ / b²) / (1 + d / b).",
        "derived here",
    ),
    "monitor_share": Entry(
        "share of time spent watching",
        "Wall time spent measuring over wall time of the run so far, from 0 to 1; readings at its end are not in it.",
    ),
}


def entry(name: str) -> Entry:
    """The entry of a quantity; for an unknown one its name in words and nothing claimed."""
    return GLOSSARY.get(name) or Entry(name.replace("_", " "), "")
