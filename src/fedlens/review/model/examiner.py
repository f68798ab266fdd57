"""The examiner: one network that predicts and explains for everybody who asks."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedlens.explain import METHODS, Contrast, Explanation, explain
from fedlens.review.contract import ReviewError
from fedlens.review.model import evidence as evidence_of
from fedlens.review.model.asking import Asking
from fedlens.review.model.badges import MapOf, Trial, badges_of
from fedlens.review.model.explaining import Explainer
from fedlens.review.model.findings import Badge, Explained, Prediction
from fedlens.review.model.fitted import Fitted, chosen, fitted
from fedlens.review.model.looking import Look, Looker
from fedlens.review.model.reading import Reader
from fedlens.review.model.subject import Subject, image_digest, map_digest
from fedlens.review.model.thread import LARGEST_BATCH, ModelThread
from fedlens.training import Evaluation
from fedlens.training.calibration import Temperature
from fedlens.training.novelty import captured_features

SCALED_ON = 32
"""Validation images whose maps set the scale of a method's colours."""

SCALE_PERCENTILE = 0.99
"""Share of those maps' pixels that are no stronger than the end of the scale."""

_REMEMBERED = 4096  # predictions
_SHOWN = 64  # maps

Question = int | Contrast | None


class Examiner:
    """Answers what a network says of an image, how sure it is, and why; from any number of threads.

    All work is done by one thread, and requests that wait for it are answered together (see
    :mod:`fedlens.review.model.thread`).

    Attributes:
        subject: the network and what is known of it.
        methods: those of the subject's methods that can explain this network, in order.
        refused: method -> the sentence that says why it cannot.
    """

    def __init__(self, subject: Subject, folder: Path | None = None) -> None:
        """Work out confidence, novelty and disagreement on the validation images, once.

        Args:
            subject: see :class:`Subject`; its network belongs to the examiner from now on.
            folder: where what was worked out is kept for the next time, or None. A file there that
                is damaged, or of another network, is worked out again.

        Raises:
            FedlensError: no method can explain the network, it does not end in a linear layer, or
                its answers are not numbers.
        """
        self.subject = subject
        self._asking = Asking(subject)
        self.methods, self.refused = self._asking.methods, self._asking.refused
        if not self.methods:
            reasons = " ".join(self.refused.values())
            raise ReviewError(f"No chosen method can explain {subject.network}. {reasons}")
        self._explainer = Explainer(subject.model, self._asking)
        self._looker = Looker(subject.model, self._asking.layer)
        self._scales: dict[str, float] = {}
        self._remembered: OrderedDict[str, Prediction] = OrderedDict()
        self._shown: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._thread = ModelThread()
        try:
            fitting = self._thread.submit("fit", lambda _: [self._fit(folder)], None)
            self._fitted = fitting.result()
            self._reader = Reader(self._fitted, subject.test)
            self._identity = evidence_of.identity(subject, self.temperature)
        except BaseException:
            self._thread.close()
            raise

    @property
    def temperature(self) -> Temperature:
        """Return what logits are divided by, and how it was found."""
        return self._fitted.temperature

    @property
    def validation(self) -> Evaluation:
        """Return the network's figures on the validation images."""
        return self._fitted.figures

    @property
    def identity(self) -> dict[str, Any]:
        """Return which model this is, plain JSON; see :mod:`fedlens.review.model.evidence`."""
        return dict(self._identity)

    def evidence(self, finding: Prediction | Explained) -> dict[str, Any]:
        """Return all that the audit record holds of what the model said, plain JSON."""
        return evidence_of.evidence(finding, self.identity)

    def predict(self, images: Tensor) -> list[Prediction]:
        """Return what the network says of each of ``images`` uint8 (B, C, H, W); B may be 0.

        Raises:
            ReviewError: they are not such images, or the network's answer is not a number.
        """
        self._check(images, 4)
        if len(images) == 0:
            return []
        # Part by part: who asks about one image meanwhile comes in between.
        parts = [self.predict_soon(part).result() for part in images.split(LARGEST_BATCH)]
        return [prediction for part in parts for prediction in part]

    def predict_soon(self, images: Tensor) -> "Future[list[Prediction]]":
        """Return at once the future of what :meth:`predict` returns; for few images."""
        self._check(images, 4)
        return self._thread.submit("predict", self._predict, images, size=len(images))

    def explain(
        self,
        image: Tensor,
        method: str | None = None,
        target: Question = None,
        *,
        badges: bool = False,
        beside: str | None = None,
    ) -> Explained:
        """Return why the network says what it says of ``image``.

        The prediction in it has all signals where badges were asked for, or the image was predicted
        before; else it lacks ``disagreement``, which would cost as much again as the map.

        Args:
            image: uint8 (C, H, W).
            method: one of :attr:`methods`; None for the first.
            target: a class number, a contrast, or None for the predicted class; only None for a
                method that looks at no class.
            badges: also try how good the map is; costs several times as much.
            beside: another of :attr:`methods`, that badges compare the map with: the one that is
                shown beside it. None for a quick one that works in another way.

        Raises:
            ReviewError: no such image, method or class.
            ExplanationError: the method cannot explain this image.
        """
        return self.explain_soon(image, method, target, badges=badges, beside=beside).result()

    def explain_soon(
        self,
        image: Tensor,
        method: str | None = None,
        target: Question = None,
        *,
        badges: bool = False,
        beside: str | None = None,
    ) -> "Future[Explained]":
        """Return at once the future of what :meth:`explain` returns."""
        self._check(image, 3)
        method = self._known(method or self.methods[0])
        self._check_target(method, target)
        if beside is not None:
            beside = self._known(beside)
        kind = "class" if isinstance(target, int) else target
        work = partial(self._explain, method, badges, beside)
        # A trial takes long: each is a batch of its own, between which others have their turn.
        size = LARGEST_BATCH if badges else 1
        return self._thread.submit(
            ("explain", method, kind, badges, beside), work, (image, target), size=size
        )

    def scale(self, method: str) -> float:
        """Return the value that has the last colour in pictures of a method's maps, above 0.

        The same for all images: the 99th percentile of the magnitudes in the maps of some validation
        images, without those that are 0. Worked out when it is first asked for.

        Raises:
            ReviewError: there is no such method.
        """
        method = self._known(method)
        if method not in self._scales:
            found = self._thread.submit(("scale", method), partial(self._scale, method), None)
            self._scales[method] = found.result()
        return self._scales[method]

    def features(self, images: Tensor) -> Tensor:
        """Return what the last linear layer is given for ``images`` uint8 (B, C, H, W), (B, F)."""
        self._check(images, 4)
        parts = [
            self._thread.submit("features", self._features, part, size=len(part)).result()
            for part in images.split(LARGEST_BATCH)
        ]
        return torch.cat(parts)

    def close(self) -> None:
        """Answer what waits and end the thread; what is asked later is refused."""
        self._thread.close()

    def __enter__(self) -> "Examiner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _known(self, method: str) -> str:
        if method not in self.methods:
            reason = f": {self.refused[method]}" if method in self.refused else ";"
            end = "" if method in self.refused else f" choose one of {', '.join(self.methods)}."
            raise ReviewError(f"The method '{method[:64]}' is not offered here{reason}{end}")
        return method

    def _check_target(self, method: str, target: Question) -> None:
        if target is None:
            return
        if not METHODS[method].class_specific:
            raise ReviewError(
                f"The method '{method}' looks at no class, so that it cannot explain one; leave out "
                "the target."
            )
        asked = (
            (target.for_class, target.against_class) if isinstance(target, Contrast) else (target,)
        )
        for number in asked:
            if isinstance(number, bool) or not 0 <= number < self.subject.classes:
                raise ReviewError(
                    f"There is no class {number}, expected 0 to {self.subject.classes - 1}."
                )

    def _check(self, images: Tensor, dimensions: int) -> None:
        shape = self.subject.image_shape
        good = images.dim() == dimensions and images.shape[-3:] == shape
        if not good or images.dtype != torch.uint8:
            raise ReviewError(
                f"The image is {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}, "
                f"expected uint8 {shape}."
            )

    # What follows runs in the model thread alone.

    def _fit(self, folder: Path | None) -> Fitted:
        self._looker.settle(self.subject.validation.images[:1])
        return fitted(self.subject, self._looker, folder)

    def _predict(self, batches: Sequence[Tensor]) -> list[list[Prediction]]:
        sizes = [len(batch) for batch in batches]
        found = iter(self._predictions(torch.cat(list(batches))))
        return [[next(found) for _ in range(size)] for size in sizes]

    def _predictions(self, images: Tensor) -> list[Prediction]:
        digests = [image_digest(image) for image in images]
        new = [n for n, digest in enumerate(digests) if digest not in self._remembered]
        answers = {n: self._remembered[digests[n]] for n in range(len(images)) if n not in new}
        if new:
            seen = self._looker.look(images[new])
            found = self._reader.predictions(seen, [digests[n] for n in new])
            answers.update(zip(new, found, strict=True))
        for prediction in answers.values():
            self._remembered[prediction.digest] = prediction
            self._remembered.move_to_end(prediction.digest)
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return [answers[n] for n in range(len(images))]

    def _glances(self, explanation: Explanation, parts: list[Tensor]) -> list[Prediction]:
        """Return predictions from what explaining showed already: all but ``disagreement``.

        Args:
            explanation: of B images.
            parts: inputs of the last linear layer, one a forward pass.
        """
        if len(parts) == 1 and len(parts[0]) == len(explanation):
            seen = Look(explanation.logits, parts[0].cpu(), None)
        else:
            seen = self._looker.glance(explanation.images)
        digests = [image_digest(image) for image in explanation.images]
        found = self._reader.predictions(seen, digests)
        return [self._remembered.get(one.digest, one) for one in found]

    def _explain(
        self,
        method: str,
        badges: bool,
        beside: str | None,
        items: Sequence[tuple[Tensor, Question]],
    ) -> list[Explained]:
        images = torch.stack([image for image, _ in items])
        asked = [target for _, target in items]
        target: Tensor | Contrast | None = None
        if isinstance(asked[0], Contrast):
            target = asked[0]
        elif asked[0] is not None:
            target = torch.tensor(asked)
        with captured_features(self._looker.head, most=2) as parts:
            found = self._explainer.explain(images, method, target)
        all_signals = badges
        known = self._predictions(images) if all_signals else self._glances(found, parts)
        meta = self._asking.on_record(found.meta)
        answers = []
        for n, ((image, question), prediction) in enumerate(zip(items, known, strict=True)):
            values = found.values[n]
            degenerate = bool(found.degenerate[n])
            one = found.target[n : n + 1] if isinstance(found.target, Tensor) else found.target
            about = {**meta, "batch": {"size": len(items), "position": n}}
            self._keep(method, prediction.digest, one, values)
            tried: tuple[Badge, ...] = ()
            if badges:
                trial = Trial(
                    model=self.subject.model,
                    image=image[None],
                    values=values,
                    target=one,
                    method=method,
                    meta=about,
                    degenerate=degenerate,
                    blind_area=self.subject.blind_area,
                    seed=self.subject.seed,
                    explain=partial(self._map, method, one),
                    other=self._other(method, one, beside, prediction.digest),
                    reseeded=self._reseeded(method, one, image[None]),
                )
                tried = badges_of(trial)
            answers.append(
                Explained(
                    prediction=prediction,
                    method=method,
                    target=question,
                    explained=int(one[0]) if isinstance(one, Tensor) else None,
                    values=values,
                    digest=map_digest(values),
                    meta=about,
                    degenerate=degenerate,
                    details={name: float(of[n]) for name, of in found.details.items()},
                    badges=tried,
                )
            )
        return answers

    def _map(
        self,
        method: str,
        target: Tensor | Contrast | None,
        images: Tensor,
        seed: int | None = None,
    ) -> Tensor:
        given = self._asking.arguments(method)
        if seed is not None:
            given["seed"] = seed
        wanted = target if METHODS[method].class_specific else None
        return explain(self.subject.model, images, method, target=wanted, **given).values

    def _other(
        self, method: str, target: Tensor | Contrast | None, beside: str | None, digest: str
    ) -> tuple[str, MapOf] | None:
        """Return the method that a map is compared with, and its map of the same image."""
        second = self._asking.second(method) if beside in (None, method) else beside
        if second is None:
            return None
        name = second

        def maps(images: Tensor) -> Tensor:
            known = self._shown.get(_shown_as(name, digest, target))
            return self._map(name, target, images) if known is None else known[None]

        return name, maps

    def _reseeded(
        self, method: str, target: Tensor | Contrast | None, image: Tensor
    ) -> Callable[[int], Tensor] | None:
        if not METHODS[method].stochastic:
            return None
        return lambda seed: self._map(method, target, image, seed)

    def _keep(
        self, method: str, digest: str, target: Tensor | Contrast | None, values: Tensor
    ) -> None:
        """Keep a map for a while: the one beside it is compared with it, as it was shown."""
        self._shown[_shown_as(method, digest, target)] = values
        while len(self._shown) > _SHOWN:
            self._shown.popitem(last=False)

    def _scale(self, method: str, _: Sequence[Any]) -> list[float]:
        positions = chosen(len(self.subject.validation), SCALED_ON)
        maps = self._map(method, None, self.subject.validation.images[positions]).abs()
        strong = maps[torch.isfinite(maps) & (maps > 0)]
        # Where no map of the sample holds anything, every value is as strong as any.
        return [float(strong.double().quantile(SCALE_PERCENTILE)) if len(strong) else 1.0]

    def _features(self, batches: Sequence[Tensor]) -> list[Tensor]:
        found = self._looker.glance(torch.cat(list(batches))).features
        return list(found.split([len(batch) for batch in batches]))


def _shown_as(method: str, digest: str, target: Tensor | Contrast | None) -> Hashable:
    """Return what a map is kept as: its method, image and question."""
    if not METHODS[method].class_specific:
        return method, digest, None
    return method, digest, int(target[0]) if isinstance(target, Tensor) else target
