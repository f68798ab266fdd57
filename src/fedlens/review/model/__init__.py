"""The model side of the console: one network, asked by many at once."""

from fedlens.review.model.examiner import Examiner
from fedlens.review.model.findings import Badge, Explained, Prediction
from fedlens.review.model.subject import Subject, image_digest, map_digest, weights_digest

__all__ = [
    "Badge",
    "Examiner",
    "Explained",
    "Prediction",
    "Subject",
    "image_digest",
    "map_digest",
    "weights_digest",
]
