"""What judges explanations: plain functions of maps, or of what makes maps.

Each states its direction, unit and range. A map that is not finite gets NaN, never a good figure.
Random draws come from the generator that is passed, and are the same for every image, so that an
image has the same figure whatever it shares its batch with.
"""

from fedlens.explain.metrics.agreement import cosine, pairwise, spearman, top_overlap
from fedlens.explain.metrics.complexity import (
    degenerate_rate,
    histogram_entropy,
    magnitude_entropy,
    sparseness,
)
from fedlens.explain.metrics.curves import Curve, order_gap, perturbation_curve
from fedlens.explain.metrics.faithfulness import (
    Completeness,
    Infidelity,
    completeness_gap,
    faithfulness_correlation,
    infidelity,
)
from fedlens.explain.metrics.fills import FILLS, fill_images, imputation_noise, impute
from fedlens.explain.metrics.localisation import (
    area_share,
    pointing_game,
    rank_accuracy,
    relevance_mass,
)
from fedlens.explain.metrics.randomisation import (
    Randomisation,
    efficient_randomisation,
    parameter_randomisation,
    randomise,
)
from fedlens.explain.metrics.ranking import Ranking, concordance, places, rank_methods
from fedlens.explain.metrics.scoring import SCORES, score_of
from fedlens.explain.metrics.stability import (
    SeedStability,
    Sensitivity,
    max_sensitivity,
    seed_stability,
)

__all__ = [
    "FILLS",
    "SCORES",
    "Completeness",
    "Curve",
    "Infidelity",
    "Randomisation",
    "Ranking",
    "SeedStability",
    "Sensitivity",
    "area_share",
    "completeness_gap",
    "concordance",
    "cosine",
    "degenerate_rate",
    "efficient_randomisation",
    "faithfulness_correlation",
    "fill_images",
    "histogram_entropy",
    "imputation_noise",
    "impute",
    "infidelity",
    "magnitude_entropy",
    "max_sensitivity",
    "order_gap",
    "pairwise",
    "parameter_randomisation",
    "perturbation_curve",
    "places",
    "pointing_game",
    "randomise",
    "rank_accuracy",
    "rank_methods",
    "relevance_mass",
    "score_of",
    "seed_stability",
    "sparseness",
    "spearman",
    "top_overlap",
]
