"""The classifier that serves: clouds in, recognitions out, through three stages a caller may also take one by one.

    projection = classifier.project(clouds, up, viewpoint)    # gravity, unit sphere, N points, depth views
    features = classifier.encode(projection)                  # CLIP's vision tower, all objects and views in batches
    recognitions = classifier.decide(projection, features)    # against cached text, over the selected views

A classifier never changes: `with_classes`, `with_config` and `with_bundle` give another one that shares the backbone,
so a node swaps a reference between two frames. Where an adapter is live, the frozen model's own answer stays at hand:

    frozen_features = classifier.encode_frozen(projection, features)    # None without an adapter
    recognitions = classifier.decide(projection, features, frozen_features)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.clip.backbone import Backbone, load_backbone
from clipoint3d_ros.clip.bundle import Adapter, ClassStatistics, load_bundle, read_meta
from clipoint3d_ros.clip.descriptions import Descriptions, read_classes
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.clip.text import class_features, class_prompts
from clipoint3d_ros.geometry.clouds import Vector
from clipoint3d_ros.recognition.config import ClassifierConfig, thresholds
from clipoint3d_ros.recognition.engine import engine_for, weights_mark
from clipoint3d_ros.recognition.familiarity import familiarity
from clipoint3d_ros.recognition.on_demand import first_views, in_doubt
from clipoint3d_ros.recognition.onnx_tower import served_by
from clipoint3d_ros.recognition.projection import Projection, Projector
from clipoint3d_ros.recognition.recognition import UNKNOWN, Recognition
from clipoint3d_ros.recognition.selection import keep_certain
from clipoint3d_ros.recognition.statistics import for_classes, fused_head

# What adapters make of class lists, encoded once; a network whose weights have changed since says it anew.
_texts: WeakKeyDictionary[Network, dict[Descriptions, tuple[tuple, Tensor]]] = WeakKeyDictionary()


class Classifier:
    """A frozen CLIP, the features of some classes, how views are chosen, and perhaps an adapter.

    Made by `Classifier.load`; see there for the arguments.
    """

    def __init__(
        self,
        backbone: Backbone,
        descriptions: Descriptions,
        config: ClassifierConfig | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        self.backbone = backbone
        self.descriptions = descriptions
        self.config = config or ClassifierConfig()
        self.thresholds = thresholds(self.config, descriptions.names)
        self.adapter = adapter
        self.frozen: Classifier | None = None
        if adapter is None:
            self.text = class_features(backbone, descriptions)
        else:
            self.frozen = Classifier(backbone, descriptions, self.config)
            self.text = self._adapted_text(adapter, descriptions)
        self.statistics = self._served_statistics()
        self._head: tuple[Tensor, Tensor] | None = None
        if self.statistics is not None:
            self._head = fused_head(self.text, backbone.scale * backbone.temperature, self.statistics)
        self._projector = Projector(self.config, backbone.preprocessing.size, backbone.device)
        if adapter is None or not self.shares_tower:  # a tower of another runtime is made now, not by the first frame
            network = None if adapter is None else adapter.network
            served_by(network.backbone if network else backbone, self.config.runtime, network.tokens if network else 0)

    @classmethod
    def load(
        cls,
        bundle: str | Path | None = None,
        backbone: str | None = None,
        pretrained: str | None = None,
        classes: str | Path | Sequence[str] | None = None,
        device: str | torch.device | None = None,
        config: ClassifierConfig | None = None,
        download: bool = False,
        patches: str = "trained",
    ) -> Classifier:
        """Load a classifier; without arguments the embedded model and the tabletop classes.

        Args:
            bundle: an adapter's folder; None or "" serves the frozen model.
            backbone: an open_clip architecture or "local-dir:" and a folder; None is the bundle's, without a bundle
                the embedded model.
            pretrained: the architecture's tag or checkpoint.
            classes: a class file's path, or names; None is the bundle's, without one `config/classes/tabletop.yaml`.
            device: where it runs; None takes CUDA where there is one.
            config: how objects are looked at and judged.
            download: fetch a tag's weights where they are not on this machine.
            patches: as in `load_backbone`; with a bundle "trained" is as that was.

        Raises:
            FileNotFoundError: weights or class file are missing; the message says how to get them.
            ValueError: an argument that cannot be served; the message says why. BundleError where it is the bundle.
        """
        if not bundle:
            frozen = load_backbone(backbone, pretrained, device, download, patches)
            return cls(frozen, read_classes(classes), config)
        meta = read_meta(bundle)
        trained_on = meta["backbone"]
        if patches == "trained" and "drop_empty" in meta["preprocessing"]:
            patches = "occupied" if meta["preprocessing"]["drop_empty"] else "all"
        if backbone is None and pretrained is None:
            backbone, pretrained = trained_on["name"], trained_on["pretrained"]
        frozen = load_backbone(backbone, pretrained, device, download, patches)
        adapter = load_bundle(bundle, frozen)
        return cls(frozen, adapter.classes if classes is None else read_classes(classes), config, adapter)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.descriptions.names

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def name(self) -> str:
        return self.backbone.name

    @property
    def version(self) -> int:
        """Of the live adapter; 0 where the frozen model answers."""
        return 0 if self.adapter is None else self.adapter.version

    def with_classes(
        self, classes: str | Path | Sequence[str] | None, config: ClassifierConfig | None = None
    ) -> Classifier:
        """The same with other classes, None being those of `load`; only sentences it has not met are encoded.

        Args:
            classes: as in `load`, and so are errors.
            config: another one that comes with them; None keeps this one's.
        """
        own = self.adapter.classes if classes is None and self.adapter is not None else read_classes(classes)
        return Classifier(self.backbone, own, config or self.config, self.adapter)

    def with_config(self, config: ClassifierConfig) -> Classifier:
        return Classifier(self.backbone, self.descriptions, config, self.adapter)

    def with_bundle(self, bundle: str | Path | None) -> Classifier:
        """The same backbone and classes with another adapter, or none; raises BundleError, changing nothing."""
        adapter = load_bundle(bundle, self.backbone) if bundle else None
        return Classifier(self.backbone, self.descriptions, self.config, adapter)

    def classify(
        self, clouds: Sequence[np.ndarray], up: Vector = (0, 0, 1), viewpoint: Vector | None = None
    ) -> list[Recognition]:
        """Recognise objects.

        Args:
            clouds: one (N, 3) array an object, metres, any frame; rows that are not finite are dropped.
            up: (3,) direction against gravity in the clouds' frame.
            viewpoint: (3,) or (B, 3) metres, where the sensor stood in the clouds' frame; None where it is not known,
                then all ten views are used.

        Returns:
            One Recognition a cloud, in order. A cloud with fewer than `min_points` finite points is "unknown" with
            even probabilities.

        Raises:
            CloudError: a cloud that is not an array of x, y, z; an `up` or `viewpoint` that is not finite.
        """
        with torch.inference_mode():
            projection = self.project(clouds, up, viewpoint)
            features = self.encode(projection)
            return self.decide(projection, features, self.encode_frozen(projection, features))

    def project(
        self, clouds: Sequence[np.ndarray], up: Vector = (0, 0, 1), viewpoint: Vector | None = None
    ) -> Projection:
        """First stage: clouds as weighted depth views. Arguments and errors as in `classify`."""
        return self._projector(clouds, up, viewpoint)

    def view_weights(
        self, clouds: Sequence[np.ndarray], up: Vector = (0, 0, 1), viewpoint: Vector | None = None
    ) -> Tensor:
        """(B, 10) float32: how much each of the ten views would count before any is rendered; rows sum to 1."""
        return self._projector.view_weights(clouds, up, viewpoint)

    @torch.inference_mode()
    def encode(self, projection: Projection, known: Tensor | None = None) -> Tensor:
        """Second stage: (B, K, D) float32 unit features of the views, at most `max_views` at once.

        A view without weight is not looked at, nor is one that is not asked for (`first_views`): it has zeros. Where
        the frozen model answers from the same features, an object goes on to all its views if either is in doubt.

        Args:
            projection: what the first stage gave.
            known: (B, K, D) features of objects that need no second look, zeros for all others.
        """
        backbone, prompts = self.backbone, None
        if self.adapter is not None and not self.shares_tower:
            network = self.adapter.network
            backbone = network.backbone
            # A point encoder's pass is large too.
            together = max(1, self.config.max_views // projection.images.shape[1])
            parts = [network.visual_prompts(clouds)[0] for clouds in projection.points.split(together) if len(clouds)]
            given = [part for part in parts if part is not None]
            prompts = torch.cat(given) if given else None
        wanted = projection.weights > 0
        features = projection.images.new_zeros(*wanted.shape, self.text.shape[1])
        if known is not None:
            features = features + known
            wanted = wanted & ~known.any(-1).any(1, keepdim=True)
        first = wanted & first_views(projection.chosen, projection.facing, self.config.first_views)
        features[first] = self._look(backbone, projection, prompts, first)
        if self.config.first_views:
            doubt = self._in_doubt(projection, features)
            if self.frozen is not None and self.shares_tower:
                doubt |= self.frozen._in_doubt(projection, features)
            rest = wanted & ~first & doubt[:, None]
            features[rest] = self._look(backbone, projection, prompts, rest)
        return features

    @torch.inference_mode()
    def encode_frozen(self, projection: Projection, features: Tensor) -> Tensor | None:
        """The frozen model's features where an adapter is live, else None: they are `encode`'s then.

        An adapter of class statistics alone leaves the tower as it is: both answers follow from the same features,
        which are what `encode` gave, the frozen model's from the views that it would have looked at itself.
        """
        if self.frozen is None:
            return None
        return self.frozen._asked_for(projection, features) if self.shares_tower else self.frozen.encode(projection)

    def _asked_for(self, projection: Projection, features: Tensor) -> Tensor:
        """`features` (B, K, D) of at least this model's own views, zeros where it alone would not have looked."""
        if not self.config.first_views:
            return features
        first = first_views(projection.chosen, projection.facing, self.config.first_views)
        doubt = self._in_doubt(projection, features.masked_fill(~first[..., None], 0))
        return features.masked_fill(~(first | doubt[:, None])[..., None], 0)

    def _in_doubt(self, projection: Projection, features: Tensor) -> Tensor:
        """(B,) bool: which objects want the views that were not looked at."""
        logits, weights = self._judge(projection, features)
        return in_doubt(logits, weights, self.config.sure_below)

    def _look(self, backbone: Backbone, projection: Projection, prompts: Tensor | None, which: Tensor) -> Tensor:
        """(M, D) of the views `which` (B, K) bool, with their objects' visual prompts (B, T, W)."""
        objects = which.nonzero()[:, 0]
        views, sizes = projection.images[which], projection.extents[objects]
        tokens = None if prompts is None else prompts[objects]
        backbone = served_by(backbone, self.config.runtime, 0 if tokens is None else tokens.shape[1])
        if not len(views) or type(backbone).encode_views is Backbone.encode_views:
            engine = engine_for(backbone, self.config.precision, self.config.graphs)
            return engine.encode(views, tokens, sizes, self.config.max_views)
        parts = [  # a backbone that looks otherwise does so itself
            backbone.encode_views(views[rows], None if tokens is None else tokens[rows], sizes[rows])
            for rows in torch.arange(len(views)).split(self.config.max_views)
        ]
        return torch.cat(parts)

    @torch.inference_mode()
    def decide(
        self, projection: Projection, features: Tensor, frozen_features: Tensor | None = None
    ) -> list[Recognition]:
        """Third stage: the objects' logits as recognitions, each with the frozen model's own where it has features."""
        logits, weights = self._judge(projection, features)
        pooled = (logits * weights[..., None]).sum(1)
        probabilities = pooled.softmax(-1).double().cpu().numpy()
        familiar = self.familiarity(pooled, features, weights).double().cpu().numpy()
        usable = projection.usable.cpu().numpy()
        answers = [self._answer(p, float(f), bool(u)) for p, f, u in zip(probabilities, familiar, usable, strict=True)]
        if self.frozen is None or frozen_features is None:
            return answers
        frozen = self.frozen.decide(projection, frozen_features)
        return [replace(answer, frozen=own) for answer, own in zip(answers, frozen, strict=True)]

    @torch.inference_mode()
    def logits(self, projection: Projection, features: Tensor) -> Tensor:
        """(B, C) float32: the selected views' weighted mean logits against every class (METHOD 4)."""
        logits, weights = self._judge(projection, features)
        return (logits * weights[..., None]).sum(1)

    def familiarity(self, pooled: Tensor, features: Tensor, weights: Tensor) -> Tensor:
        """(B,) how likely each object is of any of the classes, where half of all objects are.

        The words alone say so, for it is they to which the logit of "none of these" was fitted, at the backbone's
        temperature: that of an adapter with statistics belongs to words and statistics together.

        Args:
            pooled: (B, C) the objects' logits. features: (B, K, D) of their views. weights: (B, K) of these.
        """
        if self.statistics is None:
            return familiarity(pooled, self._unknown_logit)
        said = self.backbone.scale * (features * weights[..., None]).sum(1) @ self.text.T
        return familiarity(said, self.backbone.unknown_logit)

    @torch.inference_mode()
    def object_features(self, projection: Projection, features: Tensor) -> Tensor:
        """(B, D) float32: the selected views' weighted mean of unit features, shorter the more these differ."""
        _, weights = self._judge(projection, features)
        return (features * weights[..., None]).sum(1)

    @torch.inference_mode()
    def agreement(self, projection: Projection, features: Tensor) -> Tensor:
        """(B,) in [0, 1]: the weight of the selected views that name the same class as all of them together."""
        logits, weights = self._judge(projection, features)
        named = (logits * weights[..., None]).sum(1).argmax(-1)
        return ((logits.argmax(-1) == named[:, None]) * weights).sum(1).clamp(0, 1)

    def view_logits(self, features: Tensor) -> Tensor:
        """(…, C) of view features (…, D): what the words say, and where there are statistics, what these say too."""
        if self._head is None:
            return self.scale * features @ self.text.T
        weight, bias = self._head
        return (features @ weight.T + bias) / self.temperature

    def _adapted_text(self, adapter: Adapter, descriptions: Descriptions) -> Tensor:
        """(C, D) the adapter's class features; the frozen model's own, to the bit, where nothing of it is trained."""
        if self.frozen is not None and adapter.network.config.frozen:
            same = descriptions is self.descriptions
            return self.frozen.text if same else class_features(self.backbone, descriptions)
        network, mark = adapter.network, weights_mark(adapter.network)
        known = _texts.setdefault(network, {})
        if descriptions not in known or known[descriptions][0] != mark:
            with torch.no_grad():
                text = network.text(class_prompts(self.backbone, descriptions, network.config.context))
            known[descriptions] = (mark, text)
        return known[descriptions][1]

    def _served_statistics(self) -> ClassStatistics | None:
        """The adapter's class statistics for the classes that are served."""
        adapter = self.adapter
        if adapter is None or adapter.statistics is None:
            return None
        known = adapter.classes
        if known.names == self.classes:
            return adapter.statistics
        with torch.no_grad():
            return for_classes(
                adapter.statistics, known.names, self._adapted_text(adapter, known), self.classes, self.text
            )

    def _judge(self, projection: Projection, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K, C) and the weights (B, K) of the views that speak."""
        logits = self.view_logits(features)
        by_entropy = self.config.selection == "entropy" or (self.config.selection == "auto" and not projection.facing)
        weights = self._weights(projection, features)
        return logits, keep_certain(logits, weights) if by_entropy else weights

    def _weights(self, projection: Projection, features: Tensor) -> Tensor:
        """(B, K) the projection's weights of the views that were looked at; rows sum to 1."""
        weights = projection.weights
        missed = ~features.any(-1) & (weights > 0)
        if not self.config.first_views and not bool(missed.any()):
            return weights
        weights = weights.masked_fill(missed, 0)
        return weights / weights.sum(1, keepdim=True).clamp_min(1e-12)

    @property
    def shares_tower(self) -> bool:
        """Whether an adapter is live that leaves the vision tower as it is."""
        return self.adapter is not None and self.adapter.network.config.frozen

    @property
    def looks_by(self) -> tuple[object, ...]:
        """What features depend on beside the object: equal where another classifier's may be taken for its own."""
        looks = self.backbone.visual if self.adapter is None or self.shares_tower else self.adapter.network
        return (looks, self.config, (self.descriptions, self.version) if self.config.first_views else None)

    @property
    def temperature(self) -> float:
        """What the model's own logits are divided by: the configuration's, else the adapter's, else the backbone's."""
        if self.config.temperature is not None:
            return self.config.temperature
        return self.backbone.temperature if self.adapter is None else self.adapter.temperature

    @property
    def scale(self) -> float:
        """exp(τ) of METHOD 4, divided by the temperature."""
        return self.backbone.scale * self.backbone.temperature / self.temperature

    @property
    def _unknown_logit(self) -> float | None:
        """The backbone's, made sharper or humbler with the classes' logits."""
        logit = self.backbone.unknown_logit
        return None if logit is None else logit * self.backbone.temperature / self.temperature

    def _answer(self, probabilities: np.ndarray, familiar: float, usable: bool) -> Recognition:
        if usable:
            share = 0.5 if self.statistics is None else float(self.statistics.known)
            return Recognition.of(probabilities, self.classes, familiar, self.thresholds, share)
        even = Recognition.of(np.full(len(probabilities), 1.0), self.classes)
        return replace(even, label=UNKNOWN, score=1 - even.score)
